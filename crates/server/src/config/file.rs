//! Reads the TOML file. Its keys are the flags' names with underscores; an unknown key is an error.

use std::path::Path;

use super::ConfigError;
use crate::args::Settings;

/// The options in the file at `path`.
pub(super) fn read(path: &Path) -> Result<Settings, ConfigError> {
    let what = "config file";
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|reason| ConfigError::Unreadable {
        what,
        path: path.to_owned(),
        reason,
    })?;
    toml::from_str(&text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        let before = text.bytes().take(offset);
        let line = 1 + before.filter(|byte| *byte == b'\n').count();
        let message = error.message().replace('\n', " ");
        ConfigError::File {
            path: path.to_owned(),
            line,
            message,
        }
    })
}
