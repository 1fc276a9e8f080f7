"""What stands in for services that cost money: for tests and demonstrations."""
