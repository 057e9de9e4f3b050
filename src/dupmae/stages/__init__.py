"""What a person runs: prepare, pretrain, finetune, quickstart."""
