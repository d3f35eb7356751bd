"""Programs that break things on purpose, as often as `--count` says; the tests run a few of each."""
