// Before anything is drawn: the theme that was chosen, or the system's.
(() => {
  const dark = matchMedia('(prefers-color-scheme: dark)');
  const set = () => {
    const chosen = localStorage.getItem('leveret.theme');
    const is = chosen === 'light' || chosen === 'dark' ? chosen : dark.matches ? 'dark' : 'light';
    document.documentElement.dataset.theme = is;
  };
  dark.addEventListener('change', set);
  addEventListener('leveret-theme', set);
  set();
})();
