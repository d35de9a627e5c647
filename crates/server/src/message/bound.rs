//! A stored job message on its way to the runner that has the job.
//!
//! Most of a message leaves as the text that was stored. Only what belongs to one assignment is made anew and written
//! between: a message is handed out far more often than anybody here needs to understand it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use startline_protocol::context::ContextData;
use startline_protocol::job_message::{Authorization, Endpoint, MaskHint, Resources, Variable};
use uuid::Uuid;

use super::PERMISSIONS;
use crate::actions::{Urls, may_have_tokens};

/// A message with what one assignment adds to it.
pub(crate) struct Bound {
    stored: String,
    pub job_id: Uuid,
    pub endpoint: Endpoint,
    /// Whether the run's code may have what its workflow grants.
    trusted: bool,
    id_token_url: String,
    /// Over stored ones of the same name.
    pub variables: BTreeMap<String, Variable>,
    contexts: BTreeMap<&'static str, (Precedence, ContextData)>,
    /// Behind the stored ones.
    pub mask: Vec<MaskHint>,
}

/// Whose value of a context counts.
enum Precedence {
    Stored,
    Added,
}

impl Bound {
    /// Adds the GUID of the assignment, and the endpoint with its bearer and the services that the bearer opens.
    pub(crate) fn new(stored: String, job_id: Uuid, urls: &Urls, token: &str, trusted: bool) -> Self {
        let endpoint = Endpoint {
            name: "SystemVssConnection".to_owned(),
            // Clients resolve relative to it, so it ends with a slash.
            url: [urls.root(), "/"].concat(),
            authorization: Authorization {
                scheme: "OAuth".to_owned(),
                parameters: BTreeMap::from([("AccessToken".to_owned(), token.to_owned())]),
            },
            data: BTreeMap::from([
                ("ResultsServiceUrl".to_owned(), urls.results()),
                ("CacheServerUrl".to_owned(), urls.cache()),
                ("PipelinesServiceUrl".to_owned(), urls.pipelines()),
            ]),
            is_shared: false,
            is_ready: true,
        };
        let v2 = Variable { value: "true".to_owned(), is_secret: false };
        Self {
            stored,
            job_id,
            endpoint,
            trusted,
            id_token_url: urls.id_token(job_id),
            variables: BTreeMap::from([("actions_uses_cache_service_v2".to_owned(), v2)]),
            contexts: BTreeMap::new(),
            mask: Vec::new(),
        }
    }

    /// Adds a context, unless the message has one of that name.
    pub(crate) fn add_context(&mut self, name: &'static str, value: ContextData) {
        self.contexts.entry(name).or_insert((Precedence::Stored, value));
    }

    /// Puts a context in the place of the message's own.
    pub(crate) fn replace_context(&mut self, name: &'static str, value: ContextData) {
        self.contexts.insert(name, (Precedence::Added, value));
    }

    /// About how many bytes [`Bound::write`] writes.
    pub(crate) const fn expected_size(&self) -> usize {
        self.stored.len() + 4096
    }

    /// Writes the message as JSON.
    ///
    /// # Errors
    /// The stored text is no message.
    pub(crate) fn write(&self, out: &mut Vec<u8>) -> serde_json::Result<()> {
        let message: Members<'_> = serde_json::from_str(&self.stored)?;
        let variables: Members<'_> = serde_json::from_str(message.require("variables")?.get())?;
        let contexts: Members<'_> = serde_json::from_str(message.require("contextData")?.get())?;
        message.require("jobId")?;
        message.require("resources")?;
        let mut mask = match message.get("mask") {
            Some(mask) => serde_json::from_str::<Option<Vec<_>>>(mask.get())?.unwrap_or_default(),
            None => Vec::new(),
        };
        mask.extend_from_slice(&self.mask);

        let mut object = Object::begin(out);
        for (name, value) in &message.0 {
            match &**name {
                "jobId" => object.member(name, &self.job_id)?,
                "resources" => object.member(name, &Resources { endpoints: vec![self.endpoint_for(&variables)] })?,
                "variables" => self.write_variables(object.object(name)?, &variables)?,
                "contextData" => self.write_contexts(object.object(name)?, &contexts)?,
                "mask" => {}
                other => {
                    // Where the message has it in its order.
                    if other == "fileTable" && !mask.is_empty() {
                        object.member("mask", &std::mem::take(&mut mask))?;
                    }
                    object.copy(other, value)?;
                }
            }
        }
        if !mask.is_empty() {
            object.member("mask", &mask)?;
        }
        object.end();
        Ok(())
    }

    fn write_variables(&self, mut object: Object<'_>, stored: &Members<'_>) -> serde_json::Result<()> {
        let mut added = self.variables.iter().peekable();
        for (name, value) in &stored.0 {
            // Both are in the order of their names.
            while let Some((before, value)) = added.next_if(|(added, _)| added.as_str() < &**name) {
                object.member(before, value)?;
            }
            match added.next_if(|(added, _)| *added == name) {
                Some((_, value)) => object.member(name, value)?,
                None => object.copy(name, value)?,
            }
        }
        added.try_for_each(|(name, value)| object.member(name, value))?;
        object.end();
        Ok(())
    }

    fn write_contexts(&self, mut object: Object<'_>, stored: &Members<'_>) -> serde_json::Result<()> {
        for (name, value) in &stored.0 {
            match self.contexts.get(&**name) {
                Some((Precedence::Added, value)) => object.context(name, value)?,
                _ => object.copy(name, value)?,
            }
        }
        for (name, (_, value)) in self.contexts.iter().filter(|(name, _)| stored.get(name).is_none()) {
            object.context(name, value)?;
        }
        object.end();
        Ok(())
    }

    /// Id tokens are offered only where the job may have them: their address alone makes official workers wait.
    fn endpoint_for(&self, variables: &Members<'_>) -> Endpoint {
        let mut endpoint = self.endpoint.clone();
        let granted = variables.0.iter().find(|(name, _)| name.eq_ignore_ascii_case(PERMISSIONS));
        let granted = granted.and_then(|(_, value)| serde_json::from_str::<Variable>(value.get()).ok());
        if may_have_tokens(granted.as_ref().map(|granted| &*granted.value), self.trusted) {
            endpoint.data.insert("GenerateIdTokenUrl".to_owned(), self.id_token_url.clone());
        }
        endpoint
    }
}

/// The members of an object in their order, each value as it is written.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl Members<'_> {
    fn get(&self, name: &str) -> Option<&RawValue> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }

    fn require(&self, name: &'static str) -> serde_json::Result<&RawValue> {
        self.get(name).ok_or_else(|| de::Error::missing_field(name))
    }
}

/// A name, which lies in the text unless something in it is escaped.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Members<'de>, M::Error> {
                let mut members = Vec::with_capacity(24);
                while let Some((Name(name), value)) = map.next_entry()? {
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// An object that is being written.
struct Object<'a> {
    out: &'a mut Vec<u8>,
    is_first: bool,
}

impl<'a> Object<'a> {
    fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, is_first: true }
    }

    fn name(&mut self, name: &str) -> serde_json::Result<()> {
        if !std::mem::take(&mut self.is_first) {
            self.out.push(b',');
        }
        serde_json::to_writer(&mut *self.out, name)?;
        self.out.push(b':');
        Ok(())
    }

    fn copy(&mut self, name: &str, value: &RawValue) -> serde_json::Result<()> {
        self.name(name)?;
        self.out.extend_from_slice(value.get().as_bytes());
        Ok(())
    }

    fn member(&mut self, name: &str, value: &impl serde::Serialize) -> serde_json::Result<()> {
        self.name(name)?;
        serde_json::to_writer(&mut *self.out, value)
    }

    fn context(&mut self, name: &str, value: &ContextData) -> serde_json::Result<()> {
        self.name(name)?;
        value.write_json(self.out)
    }

    /// Begins a member that is an object, which is to be ended.
    fn object(&mut self, name: &str) -> serde_json::Result<Object<'_>> {
        self.name(name)?;
        Ok(Object::begin(self.out))
    }

    fn end(self) {
        self.out.push(b'}');
    }
}

#[cfg(test)]
mod tests;
