"""Run what run.py runs, also where the package is installed without it: `python -m portraitlab`."""

from portraitlab.app.program import run

if __name__ == "__main__":
    run()
