"""A window that shows one PNG and reads it again when it changes: python -m synth.story.window FILE. Ends with its parent."""

import os
import sys

LOOK_MS = 500
SIDE = 600  # pixels that the longer side should have, about: tiny pictures are enlarged by whole pixels


def main(path: str) -> None:
    import tkinter

    parent, seen = os.getppid(), 0
    root = tkinter.Tk()
    root.title("newest pictures")
    label = tkinter.Label(root, text="no picture yet", padx=40, pady=40)
    label.pack()

    def look() -> None:
        nonlocal seen
        if os.getppid() != parent:
            root.destroy()
            return
        try:
            changed = os.stat(path).st_mtime_ns
            if changed != seen:
                image = tkinter.PhotoImage(file=path)
                label.image = image.zoom(max(1, SIDE // max(image.width(), image.height())))  # kept: Tk does not
                label.configure(image=label.image, padx=0, pady=0)
                seen = changed
        except (OSError, tkinter.TclError):
            seen = 0  # not there yet
        root.after(LOOK_MS, look)

    look()
    root.mainloop()


if __name__ == "__main__":
    main(sys.argv[1])
