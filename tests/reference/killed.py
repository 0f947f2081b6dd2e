"""Work that is killed with SIGKILL at random moments, each time in a process of its own."""

import multiprocessing
import os
import random
import signal
import sys
import time


class Mortal:
    """A function of a folder, to be run in processes that are killed.

    A fork server imports the modules once, and every run is still a process of its own.
    """

    def __init__(self, monkeypatch, work, *modules):
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        self.work, self.life = work, 0.0
        self.moments = random.Random(0)
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(list(modules))

    def finishes(self, out, within=None):
        """Whether the work ends by itself, within a share of its life if one is given."""
        process = self.context.Process(target=self.work, args=(str(out),))
        process.start()
        process.join(None if within is None else within * self.life)
        process.kill()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        return process.exitcode == 0

    def killed_when(self, out, reached):
        """Kill the work as soon as its folder is so far: at the same place however fast it runs."""
        process = self.context.Process(target=self.work, args=(str(out),))
        process.start()
        while not reached(out) and process.is_alive():
            time.sleep(0.001)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, "the work was done before it was so far"

    def undisturbed(self, folder):
        """Two folders of work that was not killed. Its life is that of the second.

        The server itself starts with the first.
        """
        for out in (folder / "first", folder / "second"):
            began = time.monotonic()
            assert self.finishes(out)
            self.life = time.monotonic() - began
            yield out

    def killed(self, folder, low, high, *, kills, ends=0):
        """A folder and whether the work in it is done, after every process.

        Each is killed at a moment between two shares of the life of the work, and the next goes on
        in the same folder until the work is done; then another folder begins. Stops after so many
        kills, or later, when the work was done so many times.
        """
        out, finished = folder / "0", 0
        while kills > 0 or finished < ends:
            done = self.finishes(out, self.moments.uniform(low, high))
            yield out, done
            kills -= not done
            if done:
                finished += 1
                out = folder / str(finished)
