"""What every other part uses and what knows none of them: errors, files, folders, the registry of plugins."""
