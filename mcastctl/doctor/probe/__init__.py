"""Active tests, only when asked for: join, report, inject, trace and send, and take it all back."""
