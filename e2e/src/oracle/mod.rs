//! What must hold in every namespace test, whatever the test is about.
