"""The commands, by what they are about: each parses, checks, calls, and has no logic of its own."""
