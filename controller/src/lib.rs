//! Gives each node its subnets, judges what nodes publish, runs key rotations.
