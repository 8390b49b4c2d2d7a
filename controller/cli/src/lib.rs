//! The program `hawser`: status, checks, keys, joins and proof for the operator.
