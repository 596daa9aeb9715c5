"""A Lightning module that learns from a stream, an update after every item.

Optimisation is manual, as an item is a step in time and not a batch. State and influence estimate
go into Lightning's checkpoints, and a second trainer goes on where the first one stopped.
"""

from tempfile import TemporaryDirectory

import lightning
import torch
from torch import nn
from uoro_torch import Online


class StreamModule(lightning.LightningModule):
    """A GRU cell and a readout."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization, self.saved = False, None
        self.core, self.readout = nn.GRUCell(1, 16), nn.Linear(16, 1)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)

    def on_train_start(self):  # The parameters are on their device, and restored.
        self.online = Online.for_module(self.core)
        if self.saved is not None:
            self.online.load_state_dict(self.saved)

    def training_step(self, item, index):
        x, y = item
        loss = nn.functional.mse_loss(self.readout(self.online(x)), y)
        self.manual_backward(loss)
        self.optimizers().step()
        self.optimizers().zero_grad()
        losses.append(loss.detach())

    def on_save_checkpoint(self, checkpoint):
        checkpoint["online"] = self.online.state_dict()

    def on_load_checkpoint(self, checkpoint):
        self.saved = checkpoint["online"]


# Remember the number seen one step ago; another trainer learns the second half of the stream.
torch.manual_seed(0)
numbers, losses, saved = torch.randint(0, 2, (601, 1)) * 2.0 - 1.0, [], None
halves = zip(numbers[1:].chunk(2), numbers[:-1].chunk(2), strict=True)
quiet = ["logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"]
with TemporaryDirectory() as folder:
    for epochs, half in enumerate(halves, 1):
        trainer = lightning.Trainer(
            accelerator="cpu", max_epochs=epochs, **dict.fromkeys(quiet, False)
        )
        trainer.fit(StreamModule(), zip(*half, strict=True), ckpt_path=saved)
        trainer.save_checkpoint(saved := f"{folder}/half.ckpt")

first, last = torch.stack(losses[:100]).mean(), torch.stack(losses[-100:]).mean()
print(f"squared error: {first:.2f} at first, {last:.4f} at last")
