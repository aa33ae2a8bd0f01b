"""The tables. Every change here needs a migration in ``migrations/versions`` (a test compares).

Times are seconds, dates are ISO 8601 in UTC.
"""

from __future__ import annotations

from sqlalchemy import Float, ForeignKey, Integer, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class AnswerRow(Base):
    """A cached answer, by the digest of all that decides it. Prompts are not kept, only digests."""

    __tablename__ = "answers"

    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    model: Mapped[str] = mapped_column(Text)
    text: Mapped[str] = mapped_column(Text)
    finish: Mapped[str] = mapped_column(String(16))
    input_tokens: Mapped[int] = mapped_column(Integer)
    output_tokens: Mapped[int] = mapped_column(Integer)
    cached_input_tokens: Mapped[int] = mapped_column(Integer)
    seconds: Mapped[float] = mapped_column(Float)
    batch_size: Mapped[int] = mapped_column(Integer)
    error: Mapped[str] = mapped_column(Text)
    made_at: Mapped[str] = mapped_column(String(32))


class WeightRow(Base):
    """A cached log-likelihood (nats, number of tokens), by the digest of model, context, text."""

    __tablename__ = "weights"

    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    logprob: Mapped[float] = mapped_column(Float)
    tokens: Mapped[int] = mapped_column(Integer)


class RatingRow(Base):
    """A cached rating of a text in [0, 1], by the digest of classifier and text."""

    __tablename__ = "ratings"

    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[float] = mapped_column(Float)


class BenchRow(Base):
    """A finished benchmark run, whole, as JSON; a later run of the same key takes its place."""

    __tablename__ = "benches"

    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    benchmark: Mapped[str] = mapped_column(Text)
    model: Mapped[str] = mapped_column(Text)
    made_at: Mapped[str] = mapped_column(String(32))
    version: Mapped[str] = mapped_column(String(32))
    content: Mapped[str] = mapped_column(Text)


class RunRow(Base):
    """One run of a command over an app."""

    __tablename__ = "runs"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    app: Mapped[str] = mapped_column(Text)
    app_digest: Mapped[str] = mapped_column(String(64))
    command: Mapped[str] = mapped_column(Text)
    version: Mapped[str] = mapped_column(String(32))
    started_at: Mapped[str] = mapped_column(String(32))
    finished_at: Mapped[str | None] = mapped_column(String(32))


class ItemRow(Base):
    """What one step of one route gave for one item in one run."""

    __tablename__ = "items"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"), index=True)
    route: Mapped[str] = mapped_column(Text)
    item: Mapped[str] = mapped_column(Text)
    step: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(String(16))
    output: Mapped[str] = mapped_column(Text)
    error: Mapped[str] = mapped_column(Text)


class FigureRow(Base):
    """One number of one run, with its interval and signature."""

    __tablename__ = "figures"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"), index=True)
    route: Mapped[str] = mapped_column(Text)
    name: Mapped[str] = mapped_column(Text)
    value: Mapped[float | None] = mapped_column(Float)
    low: Mapped[float | None] = mapped_column(Float)
    high: Mapped[float | None] = mapped_column(Float)
    n: Mapped[int] = mapped_column(Integer)
    signature: Mapped[str] = mapped_column(Text)
