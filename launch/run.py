"""The Hydra app: python launch/run.py [-m] recipe=.. dataset=.. captioner=.. model=.. cluster=.. KEY=VALUE ...

hydra.main only plans. What it planned is run or submitted afterwards, all points together, each distinct stage once:
hydra.main always returns None, and an exit inside one point of a sweep would end the sweep.
"""

import sys
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a clone works without installing
if sys.path[1:2] == [str(Path(__file__).resolve().parent)]:
    del sys.path[1]  # launch/ itself: its modules must not shadow the standard library's


def main(argv: list[str]) -> int:
    """The exit code: 0, 75 run it again, 65 bad input, 70 a bug; the worst of all points."""
    if {"-h", "--help"} & set(argv):
        from launch.usage import usage

        print(usage())
        return 0
    from launch.session import Session
    from synth.errors import EXIT_AGAIN, EXIT_BAD_INPUT, EXIT_BUG, InputError

    session = Session()
    try:
        session.check(argv)
        hydra_main(session)
        return session.execute()
    except InputError as e:
        print(f"error: {e}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except Exception:  # noqa: BLE001 (a bug: shown whole, with a code that says so)
        traceback.print_exc()
        return EXIT_BUG
    except KeyboardInterrupt:  # while planning: afterwards the clusters catch it themselves
        print("stopped before anything was begun", file=sys.stderr)
        return EXIT_AGAIN


def hydra_main(session) -> None:
    """Compose every point and hand it to the session, which plans it."""
    import hydra

    from launch.compose import CONF, CONFIG_NAME, register

    register()

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name=CONFIG_NAME)
    def task(config) -> None:
        session.plan(config)

    with session.scratch():
        try:
            task()
        except SystemExit as e:  # Hydra has said why; its own code 1 means nothing to a scheduler
            session.hydra_gave_up(e.code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
