"""The command line: one file a noun, each verb a thin layer over a `Control` and `tools.output`."""
