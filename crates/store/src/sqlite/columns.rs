//! How values lie in columns.

use std::error::Error;
use std::fmt::Display;
use std::str::FromStr;

use jiff::Timestamp;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef};
use rusqlite::{Row, ToSql};
use serde::Serialize;
use serde::de::DeserializeOwned;
use startline_protocol::state::{ClaimState, Conclusion, JobStatus, RunStatus};

use crate::record::kept;

/// A time as microseconds.
pub(super) struct Time(pub(super) Timestamp);

impl ToSql for Time {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(kept(self.0).as_microsecond().into())
    }
}

impl FromSql for Time {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Timestamp::from_microsecond(value.as_i64()?).map(Self).map_err(FromSqlError::other)
    }
}

/// A list, map or structure as JSON text.
pub(super) struct Json<T>(pub(super) T);

impl<T: Serialize> ToSql for Json<T> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let text = serde_json::to_string(&self.0);
        text.map(Into::into).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
    }
}

impl<T: DeserializeOwned> FromSql for Json<T> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        serde_json::from_str(value.as_str()?).map(Self).map_err(FromSqlError::other)
    }
}

/// A value as its own text, such as a scope.
pub(super) struct Text<T>(pub(super) T);

impl<T: Display> ToSql for Text<T> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.to_string().into())
    }
}

impl<T: FromStr<Err: Error + Send + Sync + 'static>> FromSql for Text<T> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_str()?.parse().map(Self).map_err(FromSqlError::other)
    }
}

/// A state as the word that the API has for it.
pub(super) struct Word<T>(pub(super) T);

macro_rules! word {
    ($($kind:ty),+) => {
        $(
            impl ToSql for Word<$kind> {
                fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                    Ok(self.0.as_str().into())
                }
            }

            impl FromSql for Word<$kind> {
                fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                    let word = value.as_str()?;
                    let unknown = || FromSqlError::Other(format!("unknown word `{word}`").into());
                    <$kind>::parse(word).map(Self).ok_or_else(unknown)
                }
            }
        )+
    };
}
word!(JobStatus, RunStatus, ClaimState, Conclusion);

/// A size in bytes, as the store keeps it.
pub(super) struct Size(pub(super) u64);

impl ToSql for Size {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(i64::try_from(self.0).unwrap_or(i64::MAX).into())
    }
}

impl FromSql for Size {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        u64::try_from(value.as_i64()?).map(Self).map_err(FromSqlError::other)
    }
}

/// Reads a row's columns in the order of its query.
pub(super) struct Columns<'a> {
    row: &'a Row<'a>,
    next: usize,
}

impl<'a> Columns<'a> {
    pub(super) const fn of(row: &'a Row<'a>) -> Self {
        Self { row, next: 0 }
    }

    pub(super) fn get<T: FromSql>(&mut self) -> rusqlite::Result<T> {
        let column = self.next;
        self.next += 1;
        self.row.get(column)
    }

    /// A text where it lies.
    pub(super) fn str(&mut self) -> rusqlite::Result<&'a str> {
        let column = self.next;
        self.next += 1;
        Ok(self.row.get_ref(column)?.as_str()?)
    }

    /// The same of a column that may be empty.
    pub(super) fn optional_str(&mut self) -> rusqlite::Result<Option<&'a str>> {
        let column = self.next;
        self.next += 1;
        Ok(self.row.get_ref(column)?.as_str_or_null()?)
    }

    pub(super) fn time(&mut self) -> rusqlite::Result<Timestamp> {
        Ok(self.get::<Time>()?.0)
    }

    pub(super) fn size(&mut self) -> rusqlite::Result<u64> {
        Ok(self.get::<Size>()?.0)
    }

    pub(super) fn optional_time(&mut self) -> rusqlite::Result<Option<Timestamp>> {
        Ok(self.get::<Option<Time>>()?.map(|time| time.0))
    }

    pub(super) fn json<T: DeserializeOwned>(&mut self) -> rusqlite::Result<T> {
        Ok(self.get::<Json<T>>()?.0)
    }

    pub(super) fn optional_json<T: DeserializeOwned>(&mut self) -> rusqlite::Result<Option<T>> {
        Ok(self.get::<Option<Json<T>>>()?.map(|json| json.0))
    }

    pub(super) fn text<T>(&mut self) -> rusqlite::Result<T>
    where
        Text<T>: FromSql,
    {
        Ok(self.get::<Text<T>>()?.0)
    }

    pub(super) fn word<T>(&mut self) -> rusqlite::Result<T>
    where
        Word<T>: FromSql,
    {
        Ok(self.get::<Word<T>>()?.0)
    }

    pub(super) fn optional_word<T>(&mut self) -> rusqlite::Result<Option<T>>
    where
        Word<T>: FromSql,
    {
        Ok(self.get::<Option<Word<T>>>()?.map(|word| word.0))
    }
}
