"""The dashboard: what the HTTP API says and does, as pages for people; needs `fairlane[monitor]`."""
