"""Who is subscribed to what: topics, and the sessions behind each. Sans-I/O."""

from __future__ import annotations

from forgesyte_nb.errors import InvalidMessage
from forgesyte_nb.jobs import Job
from forgesyte_nb.protocol.topics import ALL, plugin_topic
from forgesyte_nb.sessions import Session


class Subscriptions:
    """Who is subscribed to what."""

    def __init__(self, *, max_topics: int) -> None:
        """Make an empty book; `max_topics` bounds one client's."""
        self._max_topics = max_topics
        self._by_topic: dict[str, set[Session]] = {}

    def __bool__(self) -> bool:
        return bool(self._by_topic)

    def add(self, session: Session, topic: str) -> None:
        """Subscribe; twice is once.

        Raises:
            InvalidMessage: If the client has too many topics.
        """
        if topic not in session.topics and len(session.topics) >= self._max_topics:
            raise InvalidMessage(f"{len(session.topics)} topics are subscribed already, the limit; unsubscribe some")
        session.topics.add(topic)
        self._by_topic.setdefault(topic, set()).add(session)

    def remove(self, session: Session, topic: str) -> None:
        """Unsubscribe; from what one is not subscribed to is no error."""
        session.topics.discard(topic)
        subscribers = self._by_topic.get(topic)
        if subscribers is not None:
            subscribers.discard(session)
            if not subscribers:
                del self._by_topic[topic]

    def close(self, topic: str) -> None:
        """Nothing more will be said on it: nobody is subscribed to it any longer."""
        for session in self._by_topic.pop(topic, ()):
            session.topics.discard(topic)

    def leave(self, session: Session) -> None:
        """Unsubscribe from everything."""
        for topic in list(session.topics):
            self.remove(session, topic)

    def hand_over(self, session: Session, heir: Session) -> None:
        """Another session is subscribed to what this one was, up to the limit."""
        for topic in list(session.topics):
            self.remove(session, topic)
            if topic in heir.topics or len(heir.topics) < self._max_topics:
                self.add(heir, topic)

    def of_topic(self, topic: str) -> set[Session]:
        """Subscribers of one topic."""
        return self._by_topic.get(topic, set())

    def of_job(self, job: Job) -> set[Session]:
        """Subscribers of a job by any of its topics, each once, its owner not among them."""
        by_topic = self._by_topic
        found: set[Session] = set()
        for topic in (ALL, job.job_id, plugin_topic(job.entry.plugin.name)):
            subscribers = by_topic.get(topic)
            if subscribers:
                found |= subscribers
        found.discard(job.owner.last_heir)
        return found
