"""`python -m evenflow`: the program where its console script is not on PATH."""

from evenflow.cli import main

if __name__ == "__main__":
    main()
