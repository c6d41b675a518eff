"""Draw portraits with a trained run and keep each as a picture of its own."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig

from portraitlab.bench import Bench
from portraitlab.pictures import save, to_image
from portraitlab.records import plain, trained_run
from portraitlab.scoring import draw, picture


class SamplePortraits:
    """Draws the first held-out samples and measures nothing.

    run: a run's folder, or None for the run that the configuration describes. count: of portraits,
    at most as many as there are held-out samples.
    """

    def __init__(self, count: int, run: str | None = None) -> None:
        if count < 1:
            raise ValueError(f"task.count={count} must be at least 1")
        self.count = count
        self.run = run

    def __call__(self, config: DictConfig) -> dict[str, Any]:
        """Where the pictures lie. Raises NoRun (a ValueError) where nothing was trained."""
        run = trained_run(plain(config), self.run)
        bench = Bench.of(config)
        bench.load(run.weights)
        model = bench.parts.model
        size = config.scale.score_batch_size
        portraits = draw(model, bench.sampler, bench.scoring, size, bench.parts.device, self.count)
        folder = run.folder / "samples" / run.scoring
        for number, (image, sample) in enumerate(
            zip(portraits.images, portraits.samples, strict=True)
        ):
            save(to_image(image), folder / f"{number:04d}-{sample.identity}.png")
        save(picture(portraits, bench.photos, model), folder / "grid.png")
        print(f"samples: {folder}")
        return {"folder": str(folder), "images": len(portraits.samples)}
