//! What the process has mapped, as the kernel lists it in `/proc/self/smaps`. Reads and understands; changes nothing.

use std::fs;
use std::ops::Range;

const SMAPS: &str = "/proc/self/smaps";

/// Address ranges of files that are mapped and cannot be written, and of which no page was ever made the process's own:
/// whatever is in them can be read again from the file. Empty where the kernel does not tell.
pub(crate) fn files_as_they_are() -> Vec<Range<usize>> {
    fs::read_to_string(SMAPS).map_or_else(|_| Vec::new(), |smaps| as_they_are(&smaps))
}

fn as_they_are(smaps: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut candidate = None;
    for line in smaps.lines() {
        match line.split_once(':') {
            Some(("Anonymous", rest)) if rest.trim() == "0 kB" => found.extend(candidate.take()),
            Some((field, _)) if !field.contains(' ') => {}
            // A mapping's own line, whose first colon is that of the device's number.
            _ => candidate = file_mapping(line),
        }
    }
    found
}

/// `START-END PERMISSIONS OFFSET DEVICE INODE PATH` of a file that is mapped privately and cannot be written.
fn file_mapping(line: &str) -> Option<Range<usize>> {
    let mut words = line.split_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let readable = matches!(words.next()?, "r--p" | "r-xp");
    let path = words.nth(3)?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    (readable && path.starts_with('/')).then_some(address(start)?..address(end)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_that_cannot_differ_from_what_is_mapped() {
        let smaps = "\
            1000-2000 r--p 00000000 fe:00 9    /bin/leveret\nSize: 4 kB\nRss: 4 kB\nAnonymous:   0 kB\nVmFlags: rd mr\n\
            2000-3000 r-xp 00001000 fe:00 9    /bin/with space\nRss: 4 kB\nAnonymous:      0 kB\n\
            3000-4000 r--p 00002000 fe:00 9    /bin/leveret\nRss: 4 kB\nAnonymous:      4 kB\n\
            4000-5000 rw-p 00003000 fe:00 9    /bin/leveret\nRss: 4 kB\nAnonymous:      0 kB\n\
            5000-6000 r--s 00000000 fe:00 9    /data/shared\nRss: 4 kB\nAnonymous:      0 kB\n\
            6000-7000 r-xp 00000000 00:00 0    [vdso]\nRss: 4 kB\nAnonymous:      0 kB\n\
            7000-8000 r--p 00000000 00:00 0 \nRss: 4 kB\nAnonymous:      0 kB\n\
            nonsense\n";
        assert_eq!(as_they_are(smaps), [0x1000..0x2000, 0x2000..0x3000]);
    }

    #[test]
    fn this_program_is_among_them() {
        let code = as_they_are as *const () as usize;
        assert!(
            files_as_they_are()
                .iter()
                .any(|range| range.contains(&code))
        );
    }
}
