"""Ship an edit: LoRA adapters for PEFT and llama.cpp, the card that goes with it, and the way to the Hugging Face hub."""
