"""Small modules that stand for foreign implementations: right ones, wrong ones, and ones that misbehave."""
