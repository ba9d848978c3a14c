"""Whether the job of a lease has ended, by what squeue is made to say."""

from synth.host.gone import EVERY, SlurmJobs, is_over
from synth.host.squeue import JobRef

ME = JobRef("7_0", 1, "dev")


def test_an_incarnation_is_over_when_its_job_ended_was_requeued_or_is_unknown():
    assert is_over(None, 0) and is_over(("COMPLETED", 0), 0) and is_over(("PENDING", 1), 0) and is_over(("RUNNING", 1), 0)
    assert not is_over(("RUNNING", 1), 1) and not is_over(("COMPLETING", 0), 0) and not is_over(("A_STATE_OF_2030", 0), 0)


class Squeue:
    def __init__(self, states):
        self.states, self.asked, self.now = states, [], 0.0
        self.hidden = False  # whether the site shows users their own jobs alone

    def __call__(self, base):
        self.asked.append(base)
        return self.states

    def jobs(self, me=ME):
        return SlurmJobs(me, self, clock=lambda: self.now, hidden=lambda: self.hidden)


def test_an_earlier_incarnation_of_the_own_job_is_gone_without_asking():
    squeue = Squeue(None)
    assert squeue.jobs().gone("dev/7_0") and not squeue.jobs().gone("dev/7_0@1") and not squeue.jobs().gone("dev/7_0@2")
    assert squeue.asked == []


def test_jobs_of_other_clusters_and_without_a_job_of_ones_own_are_not_judged():
    squeue = Squeue({})
    assert not squeue.jobs().gone("other/9") and not squeue.jobs(None).gone("dev/9") and not squeue.jobs().gone("")
    assert squeue.asked == []


def test_one_array_is_asked_about_once_in_a_while():
    squeue = Squeue({"9_1": ("RUNNING", 0)})
    jobs = squeue.jobs()
    assert not jobs.gone("dev/9_1")
    squeue.now += 0.5
    assert not jobs.gone("dev/9_2")  # first seen now: a listing from before may be older than its lease
    squeue.now += 1
    assert not jobs.gone("dev/9_2") and squeue.asked == ["9"]
    squeue.now += EVERY
    assert jobs.gone("dev/9_2") and not jobs.gone("dev/9_1") and squeue.asked == ["9", "9"]


def test_where_a_site_hides_jobs_of_others_one_that_it_does_not_show_may_live():
    """PrivateData=jobs: squeue knows nothing of another user's job, as of one that is long over."""
    squeue = Squeue({"9_1": ("COMPLETED", 0)})
    squeue.hidden = True
    jobs = squeue.jobs()
    assert not jobs.gone("dev/9_2")  # its beat tells
    assert jobs.gone("dev/9_1")  # one's own are shown for a while after their end


def test_a_task_that_started_after_a_listing_is_not_judged_by_it():
    squeue = Squeue({"9_1": ("RUNNING", 0), "9_2": ("PENDING", 0)})
    jobs = squeue.jobs()
    jobs.gone("dev/9_1")
    squeue.now += 2
    assert not jobs.gone("dev/9_2")


def test_a_silent_controller_frees_nothing_and_is_left_alone_for_a_while():
    squeue = Squeue(None)
    jobs = squeue.jobs()
    assert not jobs.gone("dev/9") and not jobs.gone("dev/8") and squeue.asked == ["9"]
