"""The ablation lab: what each architectural choice is worth, measured in pairs over seeds."""
