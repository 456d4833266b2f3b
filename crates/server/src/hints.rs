//! What to say of a command line that is not understood: what is wrong, what was probably meant, and where what other
//! brokers have a command for is done here.

use clap::error::{ContextKind, ContextValue};

use crate::similar::similar;

/// Where the rest is told.
const HELP: &str = "`leveret --help` lists all options and their environment variables";

/// Words for a command that it has elsewhere.
const OTHER_WORDS: [(&str, &[&str]); 4] = [
    (
        "serve",
        &["start", "run", "server", "up", "daemon", "start_server"],
    ),
    ("store verify", &["verify", "check", "fsck"]),
    ("store rebuild", &["rebuild", "repair"]),
    (
        "store discard-definitions",
        &["discard-definitions", "discard"],
    ),
];

/// Flags of other programs for what an option here does.
const OTHER_FLAGS: [(&str, &[&str]); 9] = [
    (
        "--listen",
        &[
            "--port",
            "-p",
            "--host",
            "--bind",
            "--address",
            "--addr",
            "--amqp-port",
            "--listener",
            "-l",
        ],
    ),
    (
        "--management-listen",
        &[
            "--http",
            "--http-port",
            "--api-port",
            "--management",
            "--management-port",
            "--admin-port",
        ],
    ),
    (
        "--data-dir",
        &["--data", "--dir", "--directory", "--mnesia-dir", "-d"],
    ),
    (
        "--in-memory",
        &["--memory", "--ephemeral", "--no-persistence"],
    ),
    ("--config", &["--conf", "--config-file", "-c"]),
    ("--default-user", &["--user", "--username", "-u"]),
    ("--default-password", &["--password", "--pass"]),
    ("--log", &["--log-level", "--verbose", "--debug", "-v"]),
    ("--worker-threads", &["--threads", "--workers", "-j"]),
];

/// What RabbitMQ's tools have commands for, and how it is done here.
const DONE_OTHERWISE: [(&str, &[&str]); 9] = [
    (
        "a broker stops in order at SIGTERM or Ctrl-C, and takes its data up again when it is started",
        &[
            "stop",
            "stop_app",
            "start_app",
            "shutdown",
            "restart",
            "kill",
            "quit",
            "exit",
            "stop_rabbitmq",
            "drain",
            "revive",
        ],
    ),
    (
        "a broker forgets everything once it is stopped and its data directory is removed",
        &["reset", "force_reset", "force_boot"],
    ),
    (
        "the management API (--management-listen) tells what a broker has: GET /api/overview, /api/queues, /api/exchanges",
        &[
            "list_queues",
            "list_exchanges",
            "list_bindings",
            "list",
            "status",
            "report",
            "environment",
            "cluster_status",
            "node_health_check",
            "ping",
            "check_running",
            "memory_breakdown",
        ],
    ),
    (
        "connections, channels and consumers are told by the events of the exchange amq.rabbitmq.event, and connections in the log",
        &[
            "list_connections",
            "list_channels",
            "list_consumers",
            "close_connection",
            "close_all_connections",
        ],
    ),
    (
        "--ready-file names a file that is there once clients can connect",
        &["await_startup", "wait", "await_online_nodes", "is_running"],
    ),
    (
        "users, virtual hosts, permissions and policies are in a file (--definitions), read at the start and at SIGHUP",
        &[
            "change_password",
            "authenticate_user",
            "list_users",
            "list_vhosts",
            "list_permissions",
            "list_user_permissions",
            "list_policies",
            "import_definitions",
            "export_definitions",
            "import",
            "export",
            "definitions",
            "user",
            "users",
            "vhost",
            "policy",
        ],
    ),
    (
        "an AMQP client deletes and purges queues",
        &["delete_queue", "purge_queue", "purge", "declare", "delete"],
    ),
    (
        "--trace-vhost names virtual hosts whose messages are traced",
        &["trace_on", "trace_off", "trace"],
    ),
    (
        "a broker is one node without plugins; what it can do is on",
        &[
            "enable",
            "disable",
            "plugins",
            "enable_feature_flag",
            "list_feature_flags",
            "join_cluster",
            "forget_cluster_node",
            "rename_cluster_node",
            "set_cluster_name",
            "cluster",
        ],
    ),
];

/// As [`DONE_OTHERWISE`], for all that begin so.
const BEGINNINGS: [(&str, usize); 5] = [
    ("list_", 2),
    ("add_", 5),
    ("set_", 5),
    ("clear_", 5),
    ("delete_", 5),
];

/// Clap's error in one line: what is wrong, then how to find out more.
#[must_use]
pub(crate) fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let lines = text
        .lines()
        .take_while(|line| !line.trim().is_empty())
        .map(str::trim);
    let said = lines.collect::<Vec<_>>().join(" ");
    let said = said.strip_prefix("error: ").unwrap_or(&said);
    if let Some(advice) = command(error).and_then(done_otherwise) {
        return format!("{said}; {advice}; {HELP}");
    }
    match meant(error) {
        Some(meant) => format!("{said}; did you mean `{meant}`? {HELP}"),
        None => format!("{said}; {HELP}"),
    }
}

/// The command that was given and is not there.
fn command(error: &clap::Error) -> Option<&str> {
    match error.get(ContextKind::InvalidSubcommand)? {
        ContextValue::String(given) => Some(given),
        _ => None,
    }
}

fn done_otherwise(given: &str) -> Option<&'static str> {
    let given = given.to_ascii_lowercase().replace('-', "_");
    let named = DONE_OTHERWISE
        .iter()
        .find(|(_, words)| words.contains(&given.as_str()));
    let begun = BEGINNINGS
        .iter()
        .find(|(beginning, _)| given.starts_with(beginning))
        .and_then(|(_, place)| DONE_OTHERWISE.get(*place));
    named.or(begun).map(|(advice, _)| *advice)
}

/// The flag or command that was meant, if one is like what was given.
fn meant(error: &clap::Error) -> Option<&str> {
    let word_for = |given: &str, among: &'static [(&'static str, &[&str])]| {
        let found = among.iter().find(|(_, words)| words.contains(&given));
        found.map(|(meant, _)| *meant)
    };
    if let Some(given) = command(error) {
        // clap's own measure takes `sevre` for `store`.
        let meant = word_for(given, &OTHER_WORDS);
        let meant = meant.or_else(|| similar(given, ["serve", "store"].into_iter()));
        if meant.is_some() {
            return meant;
        }
    }
    if let Some(ContextValue::String(given)) = error.get(ContextKind::InvalidArg)
        && let Some(option) = word_for(given, &OTHER_FLAGS)
    {
        return Some(option);
    }
    let kinds = [
        ContextKind::SuggestedArg,
        ContextKind::SuggestedSubcommand,
        ContextKind::SuggestedValue,
    ];
    kinds.iter().find_map(|kind| match error.get(*kind)? {
        ContextValue::String(meant) => Some(meant.as_str()),
        ContextValue::Strings(meant) => meant.first().map(String::as_str),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::parse;

    fn refused(arguments: &[&str]) -> String {
        let arguments = std::iter::once("leveret").chain(arguments.iter().copied());
        one_line(&parse(arguments.map(Into::into)).unwrap_err())
    }

    #[test]
    fn what_was_probably_meant_is_said() {
        let check = |arguments: &[&str], meant: &str| {
            let error = refused(arguments);
            let expected = format!("did you mean `{meant}`?");
            assert!(error.contains(&expected), "{error}");
        };
        check(&["--lisen", ":1"], "--listen");
        check(&["serve", "--heart-beat", "1"], "--heartbeat");
        check(&["serv"], "serve");
        check(&["sevre"], "serve");
        check(&["start"], "serve");
        check(&["stor", "verify", "x"], "store");
        check(&["store", "verfy", "x"], "verify");
        assert!(!refused(&["surf"]).contains("did you mean"));
    }

    #[test]
    fn flags_of_other_programs_name_the_option() {
        for arguments in [
            &["--port", "5673"][..],
            &["--port=5673"],
            &["-p", "5673"],
            &["-p5673"],
            &["serve", "--port", "5673"],
            &["serve", "-p", "5673"],
        ] {
            let error = refused(arguments);
            assert!(error.contains("did you mean `--listen`?"), "{error}");
        }
        for (flag, option) in [
            ("--data", "--data-dir"),
            ("--management-port", "--management-listen"),
            ("-c", "--config"),
            ("--user", "--default-user"),
        ] {
            let error = refused(&[flag, "x"]);
            assert!(error.contains(&format!("`{option}`?")), "{error}");
        }
    }

    #[test]
    fn what_rabbitmqs_tools_do_is_told_how_to_do_here() {
        for (command, advice) in [
            ("stop", "SIGTERM"),
            ("stop_app", "SIGTERM"),
            ("shutdown", "SIGTERM"),
            ("status", "--management-listen"),
            ("list_queues", "--management-listen"),
            ("list_users", "--definitions"),
            ("list_connections", "amq.rabbitmq.event"),
            ("add_user", "--definitions"),
            ("set_permissions", "--definitions"),
            ("clear_policy", "--definitions"),
            ("delete_vhost", "--definitions"),
            ("import-definitions", "--definitions"),
            ("delete_queue", "AMQP client"),
            ("await_startup", "--ready-file"),
            ("trace_on", "--trace-vhost"),
            ("reset", "data directory"),
            ("join_cluster", "one node"),
            ("enable", "plugins"),
        ] {
            let error = refused(&[command]);
            assert!(error.contains(advice), "{command}: {error}");
            assert!(error.contains(command), "{error}");
            assert!(!error.contains("did you mean"), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn every_word_stands_in_one_place() {
        let mut words: Vec<_> = OTHER_WORDS
            .iter()
            .chain(&OTHER_FLAGS)
            .chain(&DONE_OTHERWISE)
            .flat_map(|(_, words)| words.iter())
            .collect();
        let count = words.len();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), count);
    }
}
