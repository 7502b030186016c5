"""The command line: `fairlane`."""
