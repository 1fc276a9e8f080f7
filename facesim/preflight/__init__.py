"""What is looked at, and made ready, before a job starts: what it reads, whether it fits, whether tests are fair."""
