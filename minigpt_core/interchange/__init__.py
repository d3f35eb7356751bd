"""Weights from other programs and for them: GPT-2 as Hugging Face keeps it, nanoGPT's checkpoints, safetensors."""
