//! What is known of one input.

use registry_mirror_core::node_bundle::Heard;

/// What is known of one object.
#[derive(Debug, Clone, PartialEq)]
pub enum Known<T> {
    /// The API server has not answered yet.
    NotYet,
    /// There is no such object.
    Absent,
    /// The object.
    Is(T),
    /// It is there and cannot be used; why, in a sentence. The last state is kept.
    Unusable(String),
}

impl<T> Known<T> {
    /// Without the reason why it cannot be used.
    #[must_use]
    pub const fn heard(&self) -> Heard<&T> {
        match self {
            Self::NotYet => Heard::NotYet,
            Self::Absent | Self::Unusable(_) => Heard::Nothing,
            Self::Is(value) => Heard::Is(value),
        }
    }
}
