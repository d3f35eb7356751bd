"""The screen of an ablation experiment: what it may ask, who answers, the app around it."""
