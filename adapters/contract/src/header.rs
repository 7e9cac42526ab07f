use crate::Text;
use bytes::Bytes;

/// Headers of a message: an ordered multimap from names to optional bytes.
///
/// Names are UTF-8, compared byte for byte; a name may repeat; a value may be absent (`None`, which differs from empty).
/// Empty headers cost no allocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(Text, Option<Bytes>)>);

impl Headers {
    /// No headers; allocates nothing.
    #[must_use]
    #[inline]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds a header behind those that are there, also when the name is there already.
    pub fn append(&mut self, name: impl Into<Text>, value: impl HeaderValue) {
        self.0.push((name.into(), value.into_value()));
    }

    /// Replaces every header of that name by one.
    pub fn set(&mut self, name: impl Into<Text>, value: impl HeaderValue) {
        let name = name.into();
        self.remove(&name);
        self.append(name, value);
    }

    /// Removes every header of that name and says how many there were.
    pub fn remove(&mut self, name: &str) -> usize {
        let before = self.0.len();
        self.0.retain(|(n, _)| n != name);
        before - self.0.len()
    }

    /// The first value of that name as bytes.
    #[must_use]
    pub fn bytes(&self, name: &str) -> Option<&Bytes> {
        self.0.iter().find(|(n, _)| n == name)?.1.as_ref()
    }

    /// The first value of that name as text; `None` also when it is not UTF-8.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.bytes(name)?).ok()
    }

    /// Whether a header of that name is there, with or without a value.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.0.iter().any(|(n, _)| n == name)
    }

    /// All headers in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&Text, Option<&Bytes>)> {
        self.0.iter().map(|(name, value)| (name, value.as_ref()))
    }

    /// The number of headers, repeated names counted each time.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no header.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of all names and values.
    #[must_use]
    #[inline]
    pub fn size(&self) -> usize {
        self.0.iter().map(|(n, v)| n.len() + v.as_ref().map_or(0, Bytes::len)).sum()
    }
}

impl IntoIterator for Headers {
    type Item = (Text, Option<Bytes>);
    type IntoIter = std::vec::IntoIter<Self::Item>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl FromIterator<(Text, Option<Bytes>)> for Headers {
    fn from_iter<I: IntoIterator<Item = (Text, Option<Bytes>)>>(headers: I) -> Self {
        Self(headers.into_iter().collect())
    }
}

/// What can be the value of a header: text, bytes, or nothing.
pub trait HeaderValue {
    /// The value as optional bytes.
    fn into_value(self) -> Option<Bytes>;
}

impl HeaderValue for &str {
    fn into_value(self) -> Option<Bytes> {
        Some(Bytes::copy_from_slice(self.as_bytes()))
    }
}

impl HeaderValue for String {
    fn into_value(self) -> Option<Bytes> {
        Some(self.into_bytes().into())
    }
}

impl HeaderValue for Text {
    fn into_value(self) -> Option<Bytes> {
        Some(self.into_bytes())
    }
}

impl HeaderValue for Bytes {
    fn into_value(self) -> Option<Bytes> {
        Some(self)
    }
}

impl HeaderValue for &[u8] {
    fn into_value(self) -> Option<Bytes> {
        Some(Bytes::copy_from_slice(self))
    }
}

impl HeaderValue for Option<Bytes> {
    fn into_value(self) -> Option<Bytes> {
        self
    }
}
