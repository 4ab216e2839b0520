"""What the actions of playbooks do."""
