//! From bytes to JSON, as forgiving as RabbitMQ, and with a word for whoever wrote it by hand.

use serde_json::{Error, Value};

use super::ImportError;

/// Some editors write it before the text.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Reads a definitions file. rabbitmq: an empty one asks for nothing
pub(super) fn parse(file: &[u8]) -> Result<Value, ImportError> {
    let text = file.strip_prefix(BYTE_ORDER_MARK).unwrap_or(file);
    if text.trim_ascii().is_empty() {
        return Ok(Value::Object(serde_json::Map::new()));
    }
    serde_json::from_slice(text).map_err(|error| complaint(text, &error))
}

fn complaint(text: &[u8], error: &Error) -> ImportError {
    let said = error.to_string();
    let what = said.split(" at line ").next().unwrap_or(&said);
    let (mut line, mut column) = (error.line(), error.column());
    let message = match what {
        "trailing comma" => {
            (line, column) = comma_before(text, line, column).unwrap_or((line, column));
            "not JSON: this comma is one too many; none may stand behind the last entry of a list or an object".to_owned()
        }
        other => format!("not JSON: {other}"),
    };
    ImportError {
        place: format!("line {line}, column {column}"),
        message,
    }
}

/// Where the last comma before a place stands.
fn comma_before(text: &[u8], line: usize, column: usize) -> Option<(usize, usize)> {
    let lines = text.split(|byte| *byte == b'\n').take(line);
    let mut lines: Vec<&[u8]> = lines.collect();
    let last = lines.pop()?;
    lines.push(last.get(..column).unwrap_or(last));
    let found = lines.iter().enumerate().rev();
    let mut found = found.filter_map(|(line, text)| {
        let column = text.iter().rposition(|byte| *byte == b',')?;
        Some((line + 1, column + 1))
    });
    found.next()
}
