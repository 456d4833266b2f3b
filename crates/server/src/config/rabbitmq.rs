//! Recognises RabbitMQ's own configuration files, which are not read here, and says what the same is called in ours.

use std::path::Path;

use crate::args::Settings;

/// How a key of `rabbitmq.conf` begins, where it is none of ours.
const KEYS: [&str; 24] = [
    "listeners.",
    "default_pass",
    "default_permissions.",
    "default_user_tags.",
    "loopback_users.",
    "management.",
    "management_agent.",
    "definitions.",
    "load_definitions",
    "ssl_options.",
    "tcp_listen_options.",
    "num_acceptors.",
    "vm_memory_",
    "disk_free_limit.",
    "log.",
    "auth_backends.",
    "auth_mechanisms.",
    "cluster_formation.",
    "cluster_partition_handling",
    "max_message_size",
    "queue_",
    "prometheus.",
    "mqtt.",
    "stomp.",
];

/// What becomes of a setting here.
#[derive(Debug, Eq, PartialEq)]
enum Here {
    /// This line of TOML says the same.
    Line(String),
    /// It is not needed: nothing here corresponds to it.
    Needless,
    /// Leveret does not have what it sets.
    Missing,
}

/// What to write instead, in one line; None if the file is none of RabbitMQ's.
///
/// `memory_bytes`: how much memory the machine has, where that is known; RabbitMQ measures the disk by it.
pub(super) fn advice(path: &Path, text: &str, memory_bytes: Option<u64>) -> Option<String> {
    let names = ["rabbitmq.conf", "rabbitmq.config", "advanced.config"];
    let named = path
        .file_name()
        .is_some_and(|name| names.iter().any(|it| name == *it));
    let settings = settings(text);
    let known = |key: &str| {
        !Settings::KEYS.contains(&key) && KEYS.iter().any(|start| key.starts_with(start))
    };
    let erlang = is_erlang(text);
    if !(named || erlang || settings.iter().any(|(key, _)| known(key))) {
        return None;
    }
    if erlang || settings.is_empty() {
        return Some(
            "write what is set there into a TOML file; docs/CONFIGURATION.md lists all keys, and \
             the variables RABBITMQ_DEFAULT_USER, _PASS and _VHOST work as they are"
                .to_owned(),
        );
    }
    let (mut lines, mut needless, mut missing) = (Vec::new(), Vec::new(), Vec::new());
    for (key, value) in &settings {
        match here(key, value, &settings, memory_bytes) {
            Here::Line(line) if !is_understood(&line) => missing.push(*key),
            Here::Line(line) if is_second(&line, &lines) => missing.push(*key),
            Here::Line(line) => lines.push(line),
            Here::Needless => needless.push(*key),
            Here::Missing => missing.push(*key),
        }
    }
    let lines = joined_listeners(lines);
    let mut parts = Vec::new();
    if !lines.is_empty() {
        let lines = lines.join("`, `");
        parts.push(format!(
            "write these lines into a file of its own: `{lines}`"
        ));
    }
    if !needless.is_empty() {
        parts.push(format!("leave out, as not needed: {}", needless.join(", ")));
    }
    if !missing.is_empty() {
        parts.push(format!("not there: {}", missing.join(", ")));
    }
    Some(parts.join("; "))
}

/// Whether this is a list of Erlang's, as `advanced.config` and the older `rabbitmq.config` have it; comments may be first.
fn is_erlang(text: &str) -> bool {
    let mut lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
    let first = lines.find(|line| !(line.is_empty() || line.starts_with('%')));
    first.is_some_and(|line| line.starts_with('[')) && text.contains("{rabbit")
}

/// The settings of a file in RabbitMQ's `key = value` form, where a comment may follow and a key's last value counts.
fn settings(text: &str) -> Vec<(&str, &str)> {
    let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
    let each = lines
        .filter(|line| !line.starts_with(['#', '%']))
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.trim(), unquoted(without_comment(value).trim())));
    let mut settings: Vec<(&str, &str)> = Vec::new();
    for (key, value) in each {
        settings.retain(|(other, _)| *other != key);
        settings.push((key, value));
    }
    settings
}

fn without_comment(value: &str) -> &str {
    value.split_once('#').map_or(value, |(value, _)| value)
}

/// Advice that would be refused is none.
fn is_understood(line: &str) -> bool {
    toml::from_str::<Settings>(line).is_ok()
}

/// Where something is served over HTTP: a port and an address, which are one line here.
fn http_listen<'a>(key: &str, value: &str, of: &dyn Fn(&str) -> Option<&'a str>) -> Here {
    let (option, usual) = if key.starts_with("prometheus.") {
        ("prometheus_listen", "15692")
    } else {
        ("management_listen", "15672")
    };
    let address = if key.ends_with("port") {
        match of(&key.replace("port", "ip")) {
            Some(ip) => listen_address(&format!("{ip}:{value}")),
            None => value.to_owned(),
        }
    } else if of(&key.replace("ip", "port")).is_some() {
        // The port's line says it.
        return Here::Needless;
    } else {
        listen_address(&format!("{value}:{usual}"))
    };
    Here::Line(format!("{option} = [{}]", quoted(&address)))
}

/// A key may stand in a TOML file once; only listeners are joined in one line.
fn is_second(line: &str, before: &[String]) -> bool {
    let key = |line: &str| line.split_once('=').map(|(key, _)| key.trim().to_owned());
    let others = before.iter().filter(|other| *other != line);
    key(line).is_some_and(|it| {
        it != "listen"
            && others
                .into_iter()
                .any(|other| key(other).as_ref() == Some(&it))
    })
}

fn unquoted(value: &str) -> &str {
    let inner = |quote| value.strip_prefix(quote)?.strip_suffix(quote);
    inner('\'').or_else(|| inner('"')).unwrap_or(value)
}

fn here(key: &str, value: &str, all: &[(&str, &str)], memory_bytes: Option<u64>) -> Here {
    let of = |key: &str| {
        all.iter()
            .find(|(other, _)| *other == key)
            .map(|(_, value)| *value)
    };
    let text = |key: &str| Here::Line(format!("{key} = {}", quoted(value)));
    let milliseconds = |key: &str| Here::Line(format!("{key} = {}", quoted(&format!("{value}ms"))));
    let number = |key: &str| match value.parse::<u32>() {
        Ok(number) => Here::Line(format!("{key} = {number}")),
        Err(_) => Here::Missing,
    };
    match key {
        "default_user" | "default_vhost" | "cluster_name" => text(key),
        // The password itself has no business in a log.
        "default_pass" => Here::Line("default_password = \"…\"".to_owned()),
        "heartbeat" | "frame_max" | "channel_max" => number(key),
        "max_message_size" => number("message_size_max"),
        "consumer_timeout" | "handshake_timeout" => milliseconds(key),
        "anonymous_login_user" if value != "none" => text("anonymous_user"),
        "load_definitions" | "management.load_definitions" | "definitions.local.path" => {
            text("definitions")
        }
        "definitions.import_backend" => Here::Needless,
        "loopback_users" if value == "none" => Here::Line("loopback_users = \"none\"".to_owned()),
        "management.tcp.port"
        | "management.listener.port"
        | "management.tcp.ip"
        | "management.listener.ip"
        | "prometheus.tcp.port"
        | "prometheus.tcp.ip" => http_listen(key, value, &of),
        // The relative limit holds if both are set.
        "disk_free_limit.absolute" if of("disk_free_limit.relative").is_some() => Here::Needless,
        "disk_free_limit.absolute" => text("disk_reserve"),
        "disk_free_limit.relative" => match (value.parse::<f64>(), memory_bytes) {
            (Ok(times), Some(memory)) if times > 0.0 => {
                let mebibytes = (times * (memory >> 20) as f64).ceil();
                Here::Line(format!(
                    "disk_reserve = {}",
                    quoted(&format!("{mebibytes}MiB"))
                ))
            }
            _ => Here::Missing,
        },
        // There is one log, and it is the console's.
        "log.file.level" | "log.default.level" if of("log.console.level").is_some() => {
            Here::Needless
        }
        "log.default.level" if of("log.file.level").is_some() => Here::Needless,
        "log.console.level" | "log.file.level" | "log.default.level" => {
            let level = match value {
                "critical" | "error" => "error",
                "warning" => "warn",
                "none" => "off",
                other => other,
            };
            Here::Line(format!("log = {}", quoted(level)))
        }
        "loopback_users.guest" if value == "true" => Here::Needless,
        _ if key.starts_with("loopback_users.") && value == "false" => {
            Here::Line("loopback_users = \"none\"".to_owned())
        }
        _ if key.starts_with("listeners.tcp") && value == "none" => Here::Needless,
        _ if key.starts_with("listeners.tcp.") => {
            Here::Line(format!("listen = [{}]", quoted(&listen_address(value))))
        }
        _ => {
            let needless = [
                "log.",
                "vm_memory_",
                "tcp_listen_options.",
                "num_acceptors.",
                "collect_statistics",
                "management_agent.",
                "queue_",
                "default_permissions.",
                "default_user_tags.",
                "auth_mechanisms.",
            ];
            if needless.iter().any(|start| key.starts_with(start)) {
                Here::Needless
            } else {
                Here::Missing
            }
        }
    }
}

/// RabbitMQ writes IPv6 addresses without brackets.
fn listen_address(value: &str) -> String {
    match value.rsplit_once(':') {
        Some((host, port)) if host.contains(':') && !host.starts_with('[') => {
            format!("[{host}]:{port}")
        }
        _ => value.to_owned(),
    }
}

/// Several listeners are one line, and no line comes twice.
fn joined_listeners(lines: Vec<String>) -> Vec<String> {
    let address = |line: &str| {
        let list = line.strip_prefix("listen = [")?.strip_suffix(']')?;
        Some(list.to_owned())
    };
    let addresses: Vec<String> = lines.iter().filter_map(|line| address(line)).collect();
    let mut joined = Vec::new();
    if !addresses.is_empty() {
        joined.push(format!("listen = [{}]", addresses.join(", ")));
    }
    for line in lines {
        if address(&line).is_none() && !joined.contains(&line) {
            joined.push(line);
        }
    }
    joined
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "\
## rabbitmq.conf
listeners.tcp.local = 127.0.0.1:5672
listeners.tcp.v6 = ::1:5673
listeners.tcp.default = 5674
default_user = shop
default_pass = secret
default_vhost = /
heartbeat = 60
max_message_size = 1000000
consumer_timeout = 1800000
loopback_users.guest = false
management.tcp.port = 15672
log.console.level = warning
log.console = true
vm_memory_high_watermark.relative = 0.6
ssl_options.certfile = /etc/cert.pem
cluster_formation.peer_discovery_backend = classic_config
";

    #[test]
    fn a_file_of_rabbitmq_is_translated() {
        let said = advice(Path::new("conf"), EXAMPLE, None).unwrap();
        assert!(!said.contains("secret") && !said.contains('\n'), "{said}");
        let (lines, rest) = said.split_once("; ").unwrap();
        let lines = lines.split_once('`').unwrap().1.strip_suffix('`').unwrap();
        assert_eq!(
            lines,
            "listen = [\"127.0.0.1:5672\", \"[::1]:5673\", \"5674\"]`, `default_user = \"shop\"`, \
             `default_password = \"…\"`, `default_vhost = \"/\"`, `heartbeat = 60`, \
             `message_size_max = 1000000`, `consumer_timeout = \"1800000ms\"`, \
             `loopback_users = \"none\"`, `management_listen = [\"15672\"]`, `log = \"warn\""
        );
        assert_eq!(
            rest,
            "leave out, as not needed: log.console, vm_memory_high_watermark.relative; \
             not there: ssl_options.certfile, cluster_formation.peer_discovery_backend"
        );
    }

    #[test]
    fn what_is_advised_is_understood() {
        let said = advice(Path::new("conf"), EXAMPLE, None).unwrap();
        let lines = said.split('`').skip(1).step_by(2);
        let file = lines.collect::<Vec<_>>().join("\n");
        let settings: Settings = toml::from_str(&file).unwrap();
        assert_eq!(settings.listen.unwrap().len(), 3);
        assert_eq!(settings.default_user.unwrap().0, "shop");
    }

    #[test]
    fn what_is_advised_stands_in_one_file() {
        let memory = Some(8 << 30);
        let said = |text: &str| advice(Path::new("rabbitmq.conf"), text, memory).unwrap();
        for (text, lines, rest) in [
            (
                "\u{feff}default_user = shop # who\r\nheartbeat = 5 # often\r\nheartbeat = 6\r\n",
                "default_user = \"shop\"`, `heartbeat = 6",
                "",
            ),
            (
                "log.file.level = debug\nlog.console.level = none\nlog.default.level = error",
                "log = \"off\"",
                "leave out, as not needed: log.file.level, log.default.level",
            ),
            (
                "management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = 15673",
                "management_listen = [\"127.0.0.1:15673\"]",
                "leave out, as not needed: management.tcp.ip",
            ),
            (
                "prometheus.tcp.ip = 127.0.0.1\nprometheus.tcp.port = 15693",
                "prometheus_listen = [\"127.0.0.1:15693\"]",
                "leave out, as not needed: prometheus.tcp.ip",
            ),
            (
                "management.tcp.ip = ::1",
                "management_listen = [\"[::1]:15672\"]",
                "",
            ),
            (
                "load_definitions = a.json\nmanagement.load_definitions = b.json\nframe_max = 0\n\
                 consumer_timeout = undefined\nheartbeat = 7",
                "definitions = \"a.json\"`, `heartbeat = 7",
                "not there: management.load_definitions, frame_max, consumer_timeout",
            ),
            (
                "disk_free_limit.absolute = 2GB",
                "disk_reserve = \"2GB\"",
                "",
            ),
            (
                "disk_free_limit.absolute = 50000000",
                "disk_reserve = \"50000000\"",
                "",
            ),
            (
                "disk_free_limit.relative = 1.5\ndisk_free_limit.absolute = 2GB",
                "disk_reserve = \"12288MiB\"",
                "leave out, as not needed: disk_free_limit.absolute",
            ),
            (
                "disk_free_limit.absolute = much\nheartbeat = 7",
                "heartbeat = 7",
                "not there: disk_free_limit.absolute",
            ),
        ] {
            let said = said(text);
            let (before, behind) = said.rsplit_once('`').unwrap();
            let advised = before.split_once('`').unwrap().1;
            assert_eq!(advised, lines, "{text}");
            assert_eq!(behind.trim_start_matches("; "), rest, "{text}");
            let file = advised.replace("`, `", "\n");
            assert!(toml::from_str::<Settings>(&file).is_ok(), "{file}");
        }
    }

    #[test]
    fn what_depends_on_an_unknown_memory_is_not_translated() {
        let said = advice(Path::new("x"), "disk_free_limit.relative = 1.0", None);
        assert_eq!(said.unwrap(), "not there: disk_free_limit.relative");
    }

    #[test]
    fn other_files_are_left_alone() {
        for text in ["", "lisen = ['x']", "heartbeat = often\nlog = 3"] {
            assert_eq!(advice(Path::new("leveret.toml"), text, None), None);
        }
        for (name, text) in [
            ("rabbitmq.conf", "heartbeat = often"),
            ("x.conf", "listeners.tcp.1 = 5672"),
            ("old", "[{rabbit, [{tcp_listeners, [5672]}]}]."),
            (
                "old",
                "%% a = b\n\n[\n  {rabbit,\n   [{tcp_listeners, [5672]}]}\n].",
            ),
            ("rabbitmq.config", "[]."),
        ] {
            assert!(advice(Path::new(name), text, None).is_some(), "{name}");
        }
    }
}
