//! The rules that are easiest to get wrong, tried in every order of everything that can happen to few members.

mod explore;
mod membership;
mod recovery;
