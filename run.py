"""Run one task, or a sweep of them with -m: `python run.py [group=choice ...] [name=value ...]`."""

from portraitlab.app.program import run

if __name__ == "__main__":
    run()
