//! The environment variables by which RabbitMQ's container image is set up, so that compose files and test tools
//! written for it work unchanged. Each also has a `_FILE` form naming a file that holds the value.

use std::path::Path;
use std::str::FromStr;

use super::values::ValueError;
use super::{ConfigError, secret};
use crate::args::Settings;

/// What those variables say.
pub(super) fn settings(
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Settings, ConfigError> {
    Ok(Settings {
        default_user: parsed(environment, "RABBITMQ_DEFAULT_USER")?,
        default_password: lookup(environment, "RABBITMQ_DEFAULT_PASS")?,
        default_vhost: parsed(environment, "RABBITMQ_DEFAULT_VHOST")?,
        ..Settings::default()
    })
}

fn parsed<T: FromStr<Err = ValueError>>(
    environment: &dyn Fn(&str) -> Option<String>,
    variable: &str,
) -> Result<Option<T>, ConfigError> {
    let Some(text) = lookup(environment, variable)? else {
        return Ok(None);
    };
    text.parse()
        .map(Some)
        .map_err(|error: ValueError| ConfigError::Environment {
            variable: variable.to_owned(),
            message: format!("bad value `{text}`: {error}"),
        })
}

/// The variable's value, or the content of the file its `_FILE` form names. Empty is absent, as compose files often
/// hand on variables that are not set.
fn lookup(
    environment: &dyn Fn(&str) -> Option<String>,
    variable: &str,
) -> Result<Option<String>, ConfigError> {
    let given = |name: &str| environment(name).filter(|value| !value.is_empty());
    if let Some(value) = given(variable) {
        return Ok(Some(value));
    }
    given(&format!("{variable}_FILE"))
        .map(|path| secret(Path::new(&path)))
        .transpose()
}
