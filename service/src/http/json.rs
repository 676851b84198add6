//! Reading JSON leniently: unknown fields are ignored, `null` counts as absent, and whatever has the wrong type is named by
//! its path.

use serde_json::{Map, Value};

use super::error::ApiError;

/// An object of a body, and where it stands in it.
#[derive(Debug, Clone)]
pub(super) struct Fields<'a> {
    map: &'a Map<String, Value>,
    path: String,
}

impl<'a> Fields<'a> {
    /// The body itself.
    pub(super) fn of(body: &'a Value) -> Result<Self, ApiError> {
        let map = body
            .as_object()
            .ok_or_else(|| ApiError::bad_request("the body must be a JSON object").code("invalid_type"))?;
        Ok(Self { map, path: String::new() })
    }

    /// An element of a list.
    pub(super) fn element(value: &'a Value, path: String) -> Result<Self, ApiError> {
        let map = value.as_object().ok_or_else(|| wrong(&path, "an object", value))?;
        Ok(Self { map, path })
    }

    /// A field's path, as messages name it.
    pub(super) fn path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// A field that is there and not `null`.
    pub(super) fn value(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    fn read<T>(
        &self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ApiError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| wrong(&self.path(name), expected, value))
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&'a str>, ApiError> {
        self.read(name, "a string", Value::as_str)
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<f64>, ApiError> {
        self.read(name, "a finite number", |value| value.as_f64().filter(|number| number.is_finite()))
    }

    /// A whole number in the range of `T`; `10.0` is one, too.
    pub(super) fn whole<T: TryFrom<i64>>(&self, name: &str) -> Result<Option<T>, ApiError> {
        self.read(name, "a whole number in range", |value| T::try_from(whole(value)?).ok())
    }

    pub(super) fn list(&self, name: &str) -> Result<Option<&'a [Value]>, ApiError> {
        self.read(name, "a list", |value| value.as_array().map(Vec::as_slice))
    }

    /// Checks that a list holds whole numbers only.
    pub(super) fn wholes(&self, name: &str) -> Result<(), ApiError> {
        for (index, value) in self.list(name)?.unwrap_or_default().iter().enumerate() {
            if whole(value).is_none() {
                return Err(wrong(&format!("{}[{index}]", self.path(name)), "a whole number", value));
            }
        }
        Ok(())
    }

    pub(super) fn map(&self, name: &str) -> Result<Option<&'a Map<String, Value>>, ApiError> {
        self.read(name, "an object", Value::as_object)
    }

    /// The fields of an object; of an absent one, none.
    pub(super) fn object(&self, name: &str) -> Result<Option<Self>, ApiError> {
        Ok(self.map(name)?.map(|map| Self { map, path: self.path(name) }))
    }

    /// As [`Fields::text`], and it must be there.
    pub(super) fn required_text(&self, name: &str) -> Result<&'a str, ApiError> {
        self.text(name)?.ok_or_else(|| self.missing(name))
    }

    /// The refusal of a body that lacks a field.
    pub(super) fn missing(&self, name: &str) -> ApiError {
        let path = self.path(name);
        ApiError::bad_request(format!("`{path}` is missing")).code("missing_field").param(path)
    }
}

fn whole(value: &Value) -> Option<i64> {
    let exact = |number: &f64| number.fract() == 0.0 && number.abs() < 9e15;
    // The cast is exact: the number is whole and far below 2^63.
    value.as_i64().or_else(|| value.as_f64().filter(exact).map(|number| number as i64))
}

/// The refusal of a value of the wrong type. Names the type found, never the value: it may be a key in the wrong place.
pub(super) fn wrong(path: &str, expected: &str, found: &Value) -> ApiError {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "this number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    ApiError::bad_request(format!("`{path}` must be {expected}, not {found}"))
        .code("invalid_type")
        .param(path)
}

/// Reads a whole body.
pub(super) fn parse(body: &[u8]) -> Result<Value, ApiError> {
    serde_json::from_slice(body).map_err(|e| malformed(body, &e))
}

/// The refusal of a body that is no JSON, with the place and the name of the field there. `NaN` and `Infinity`, which some
/// languages write and JSON does not have, are told as what they are.
pub(super) fn malformed(body: &[u8], error: &serde_json::Error) -> ApiError {
    let (before, after) = split_at_error(body, error);
    let field = field_before(before);
    let refusal = match &field {
        Some(field) if ["NaN", "Infinity"].iter().any(|word| after.starts_with(word)) => {
            ApiError::bad_request(format!("`{field}` must be a finite number")).code("invalid_value")
        }
        _ => ApiError::bad_request(format!("the body is not valid JSON: {error}")).code("invalid_json"),
    };
    match field {
        Some(field) => refusal.param(field),
        None => refusal,
    }
}

fn split_at_error<'a>(body: &'a [u8], error: &serde_json::Error) -> (&'a str, &'a str) {
    let text = std::str::from_utf8(body).unwrap_or_default();
    let line_start = match error.line() {
        0 | 1 => 0,
        line => text.match_indices('\n').nth(line - 2).map_or(text.len(), |(at, _)| at + 1),
    };
    let at = (line_start + error.column().saturating_sub(1)).min(text.len());
    text.split_at_checked(at).unwrap_or((text, ""))
}

/// The name in `"name":` with which a text ends, a minus sign aside.
fn field_before(text: &str) -> Option<String> {
    let text =
        text.trim_end().trim_end_matches('-').trim_end().strip_suffix(':')?.trim_end().strip_suffix('"')?;
    let name = &text[text.rfind('"')? + 1..];
    (name.len() <= 64).then(|| name.to_owned())
}

#[cfg(test)]
mod tests;
