"""From events to changes: one state machine per migration."""
