"""Known mistakes: what a check must catch, and what a failure is named after."""
