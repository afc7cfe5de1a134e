"""Inflected English words brought to one form, by a small rule and a table of what the rule cannot know.

A stem need not be a word ("increasing" and "increase" are both "increas"): stems are only ever compared
with stems.
"""

from __future__ import annotations

from functools import lru_cache

__all__ = ["stem", "stems", "words"]

_IRREGULAR = """
died=die; tied=tie; lied=lie
am are is was were been being=be; has had having=have; did does done doing=do; went gone goes=go
got gotten=get; bought=buy; sold=sell; won=win; lost=lose; gave given=give; took taken=take; came=come
ran=run; rose risen=rise; fell fallen=fall; began begun=begin; ate eaten=eat; drank drunk=drink
slept=sleep; woke woken=wake; wrote written=write; taught=teach; learnt=learn; thought=think; made=make
said=say; saw seen=see; knew known=know; grew grown=grow; spent=spend; built=build; broke broken=break
chose chosen=choose; dying=die; lying=lie; men=man; women=woman; children kids kid=child; feet=foot
mice=mouse; teeth=tooth; wives=wife; used using uses=use; sent=send; lent=lend; kept=keep; felt=feel
found=find; held=hold; met=meet; paid=pay; told=tell; wore worn=wear; spoke spoken=speak; flew flown=fly
forgot forgotten=forget; hid hidden=hide; froze frozen=freeze; sank sunk=sink; swam=swim; drew drawn=draw
drove driven=drive; caught=catch; fought=fight; brought=bring; threw thrown=throw; shot=shoot
stole stolen=steal; became=become; meant=mean; heard=hear; stood=stand; understood=understand; sat=sit
led=lead; fed=feed; bred=breed; bit bitten=bite; sang sung=sing; dealt=deal; bent=bend; dug=dig
shrank shrunk=shrink; stuck=stick; struck=strike; better best=good; worse worst=bad; elder eldest=old
further farther furthest farthest=far; leaves=leaf; halves=half; analyses=analysis; crises=crisis
criteria=criterion; phenomena=phenomenon; addresses=address; lives=life; ties=tie; news=news
series=series; species=species; always=always; perhaps=perhaps; besides=besides; overseas=overseas
united=united; states=states; need=need; speed=speed; during=during; morning=morning; evening=evening
nothing=nothing; something=something; anything=anything; everything=everything; building=building
evidence=evidence; hers=her; yes=yes
""".replace("\n", ";")

_ADJECTIVES = """
able big black bright broad calm cheap clean clear clever close cold cool cruel cute dark dear deep dense
dry dull dumb early easy fair fast fat few fine firm flat fresh friendly full funny great green happy hard
harsh healthy heavy high hot hungry kind large late lazy lean light likely long loose loud low lucky mild
narrow near new nice noisy old pale plain poor proud quick quiet rare rich rough sad safe scary shallow
sharp short shy sick simple slim slow small smart smooth soft sour steep strange strict strong sweet tall
thick thin tight tiny tough ugly warm weak wealthy wet white wide wild wise young
"""


def _graded(adjective: str) -> tuple[str, ...]:
    """The adjective's comparative and superlative, as they may be spelled."""
    base = adjective[:-1] + "i" if adjective.endswith("y") and adjective[-2:-1] not in "aeiou" else adjective
    base = base.removesuffix("e")
    roots = {base, base + base[-1]}
    return tuple(root + ending for root in roots for ending in ("er", "est"))


def _table() -> dict[str, str]:
    table: dict[str, str] = {}
    for adjective in _ADJECTIVES.split():
        table |= dict.fromkeys(_graded(adjective), adjective)
    for row in filter(str.strip, _IRREGULAR.split(";")):
        forms, _, base = row.partition("=")
        table |= dict.fromkeys(forms.split(), base)
    return table


_TABLE = _table()
_VOWELS = frozenset("aeiouy")
#: Endings of words that only look like a plural.
_NO_PLURAL = ("ss", "us", "is")


#: words; more than any conversation uses often, and under a megabyte
@lru_cache(maxsize=8192)
def stem(word: str) -> str:
    """`word`, in lower case, without its inflection. Of another language or too short: nearly as it is."""
    known = _TABLE.get(word)
    if known is not None:
        return known if known == word else stem(known)
    if len(word) <= 3:
        return word
    return _bare(_without_ending(word))


def _without_ending(word: str) -> str:
    if word.endswith(("ies", "ied")) and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "shes", "ches", "xes", "zes", "oes")):
        return word[:-2]
    if word.endswith("s") and not word.endswith(_NO_PLURAL):
        return word[:-1]
    for ending in ("ing", "ed", "ly"):
        root = word.removesuffix(ending)
        if root != word and len(root) >= 3 and not word.endswith("eed") and not _VOWELS.isdisjoint(root):
            return root
    return word


def _bare(word: str) -> str:
    """Without what endings come and go with: a silent e, a doubled consonant, y for i."""
    if len(word) > 3 and word[-1] == "e":
        word = word[:-1]
    if len(word) > 3 and word[-1] == word[-2]:
        word = word[:-1]
    return word[:-1] + "i" if len(word) > 3 and word[-1] == "y" and word[-2] not in _VOWELS else word


def words(text: str) -> frozenset[str]:
    """The words of a table."""
    return frozenset(text.split())


def stems(text: str) -> frozenset[str]:
    """The stems of the words of a table."""
    return frozenset(map(stem, text.split()))
