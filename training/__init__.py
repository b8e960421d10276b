"""Everything that makes the weights we ship: data, masks, losses, loop, export, evaluation."""
