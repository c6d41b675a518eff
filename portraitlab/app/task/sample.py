"""Draw portraits with a trained run and save each as a picture."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig

from portraitlab.app.experiment import Bench
from portraitlab.runs.key import plain
from portraitlab.runs.run import Run
from portraitlab.scoring.draw import draw, portrait_files, show_samples
from portraitlab.scoring.pictures import save, sheet, to_image
from portraitlab.support.checks import check_whole


class SamplePortraits:
    """A task that draws the first held-out samples and measures nothing.

    run: a run's folder, or None for the run that the configuration describes. count:
    number of portraits, at most that of the held-out samples.
    """

    def __init__(self, count: int, run: str | None = None) -> None:
        self.count = check_whole("task.count", count)
        self.run = run

    def __call__(self, config: DictConfig) -> dict[str, Any]:
        """Draw, and return the folder. Raises NoRun (a ValueError) without a trained run."""
        run = Run.of(plain(config), self.run)
        run.require_weights()
        bench = Bench.of(config, judged=False)
        bench.load(run)
        model = bench.parts.model
        size = config.scale.score_batch_size
        drawn = draw(
            model, bench.sampler, bench.scoring, size, bench.parts.device, self.count,
            precision=config.precision, customise=bench.customise,
        )  # fmt: skip
        portraits = bench.edited(drawn)
        folder = run.folder / "portraits" / run.scoring
        for image, name in zip(portraits.images, portrait_files(portraits.samples), strict=True):
            save(to_image(image), folder / name)
        save(sheet(show_samples(portraits, bench.photos, model)), folder / "grid.png")
        print(f"portraits: {folder}")
        return {"folder": str(folder), "images": len(portraits.images)}
