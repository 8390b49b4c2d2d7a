//! The custom resources of Hawser and their validation, nothing else.
