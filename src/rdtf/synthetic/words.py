"""From everyday words to a motion of the grammar: "fainting" → topple, "jumps, then spins".

Each line of the table is what is done, then the phrases that ask for it. What is done: verbs of the
grammar, joined by +, each with its amount (*) and speed (@). Phrases are in their plain form; the
words of a prompt may end in -s, -es or -ing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache

from rdtf.synthetic.grammar import AMOUNTS, SPEEDS, VERBS, MotionDraw
from rdtf.synthetic.phrases import AMOUNT_WORDS, SPEED_WORDS

_ACTIONS = """
jump | leapfrog, catapult, hop in place, exult, bound along, hop, leap, jump up and down, spring, vault, pounce, jump up, bound
jump*.6@1.3 | skip, prance, frolic, hop like bunny, gallop, trot, bunny hop, hop around
jump*.8@1.2+sway*.5 | celebrate, cheer, party, rejoice, hooray, yay, jump for joy, win, hurrah, hurray,
  victory dance, hip hip hooray, congratulate, woohoo
jump+spin | backflip, do backflip, somersault, do somersault, frontflip, flip through air, jump and spin
jump*.5@1.6+tremble*.5 | squeal, squeal with delight, startle, get scared, jump in fright, flinch, gasp, get surprise
jump*.5@1.5+stretch*.5 | dunk, high five, throw confetti, catch, throw, toss, juggle, volley, kick ball
bounce | dribble, bounce ball, bounce up and down, trampoline, boing, stomp, stamp, hop twice
bounce*.6@2 | guffaw, snigger, titter, laugh, giggle, chuckle, lol, haha, hahaha, cackle, crack up, snicker, laugh out loud, rofl, lmao,
  tee hee, chortle, burst out laughing, laugh hard, roar with laughter
spin | spin around, turn around and around, turn around, twirl, pirouette, revolve, gyrate, loop, load, orbit, rotate, whirl, reel around,
  go round, go round and round, do pirouette, make turn, spin like top, 360
spin+circle*.7 | tornado, hurricane, spin out of control, whirl around
roll | roll away, roll along, tumble, cartwheel, do cartwheel, roll over, roll around, somersault along, roll down hill
shake@.9+sway*.4@4 | say no, shake head, shake head no, disagree, refuse, no way, deny, nope, decline, reject, disapprove
shake*1.7@.4 | side to side, back and forth, left and right, left to right and back, move side to side,
  move back and forth, slide back and forth, pace, pace back and forth, move from side to side, to and fro
shake*.9@1 | convulse, oscillate, wag finger, shudder, rattle, jolt, judder, earthquake, quake, shake dice, shake hand
tremble | tremble, quiver, quake, buzz, vibrate, ring, freeze, cold, chilly, be cold, brr, shiver, twitch, shake with
  fear, scared to death, tremble with fear, hum, jitter, alarm, rumble, nervous shake, freeze cold, be afraid
tremble*1.4+pulse*.5 | bellow, quarrel, squabble, hiss, yowl, shriek, rage, fume, seethe, throw tantrum, have tantrum, boil, lose it, explode with anger, grit tooth,
  be mad, get angry, yell, scream, shout, roar, growl, howl, snarl, be furious
tremble*.8+nod*.8@1.3 | blubber, mourn loudly, cry, sob, weep, bawl, wail, tear up, whimper, burst into tear, shed tear, cry out loud,
  snivel, sniffle, cry river
nod | shake vertically, shake up and down, shake head up and down, agree, say yes, yes, nod yes, nod head, approve, accept, understand, yep, yup, ok, okay, thumb up, confirm
nod@1.5+stretch*.25@1.5 | eat, munch, chew, nibble, gobble, devour, bite, feast, snack, chomp, dine, gobble up, swallow,
  lick, nom, nom nom, taste, have dinner, eat food, slurp
nod*.7@1.8 | brag, squawk, honk, cluck, caw, talk, speak, chat, type, bark, meow, quack, chirp, peck, drum, knock, hammer, gossip, argue, chatter, work,
  tap, blab, tell, call, sing rap, rap, whisper, write, text, scold, hiccup, tick, click, press, squeak, croak
nod*.8+sway*.7 | sing, hum song, play music, play guitar, play piano, perform, whistle, listen to music, vibe, serenade
bow*.6@1.8 | sniff, sneeze, cough, achoo, choke, burp, vomit, throw up, puke, bless you, barf, retch, gag, spit
bow | curtsy, pray, thank, thank you, apologize, apologise, say sorry, sorry, kneel, plead, beg, worship, welcome,
  pick up, look down, say thank, be sorry, respect
bow*.9@2.2 | headbang, bang head, rock out, nod off violently, mosh, facepalm, rock on
sway | sway from side to side, rock, sway in wind, rock baby, look around, sway like tree, blow in wind, sway in breeze, hula, row, rock gently
sway*.8@2.2 | flail, flail arms, gesticulate, swat, wave, wave hello, wave goodbye, wave hand, wave bye, say hello, say hi, say bye, say goodbye, greet, hello, hi,
  bye, goodbye, bye bye, beckon, salute, hey, wag, wag tail, wipe, sweep, brush, scrub, mop, fan, wave flag
sway*.6@.7 | think, wonder, ponder, scratch head, hesitate, consider, muse, hmm, contemplate, daydream, dream, imagine,
  reflect, be confuse, look confuse, try to think, study, search, look for, listen, wait, look left and right
sway*.7@.9 | wink, give wink, flirt, tease, tilt head, tilt head from side to side, listen closely, lurk
sway*1.1@.8+circle*.35@.8 | teeter, wobble drunkenly, stagger, stumble, totter, reel, be drunk, be dizzy, lurch, limp, hobble, see star
sway*.5+breathe | loiter, unwind, ogle, admire, stand, model, sit, chill, relax, rest, lounge, hang out, idle, sunbathe, look, watch, stare, smile, exist, pose,
  read, be calm, grin, beam, move, animate, be alive, live, come alive, come to life
swing | dangle, swing like pendulum, hang, dangle, tick tock, swing back and forth, swing on rope, tick like clock
wobble | wobble like jelly, wiggle, jiggle, shimmy, squirm, wriggle, twerk, wiggle butt, shake it, slither, worm, writhe, shake booty,
  bend, wiggle hip, quiver like jelly, shake butt, wobble around
wobble*.8@1.4+stretch*.4@.8 | burn, flame, blaze, be on fire, catch fire, flare, smoke, bubble, simmer, fizz, steam, sizzle,
  on fire, cook, fry, grill
wobble*.6@.6+float*.8 | swim, dive, paddle, surf, snorkel, swim around, swim like fish, underwater, glide under water
tilt | lean, tip, lean to one side, incline, slant, tilt over, list, lean in, lean back
grow | balloon, get bigger, get large, get larger, enlarge, expand, swell, inflate, zoom, zoom in, come closer, approach,
  swell up, zoom toward camera, come towards camera, come toward camera, zoom towards viewer, loom, puff up, magnify,
  come near, get close, get closer, become giant, become huge, blow up like balloon, get fat, scale up, grow up
shrink | get small, get smaller, get tiny, reduce, deflate, zoom out, diminish, move away, back off, back away, recede,
  scale down, become small, become smaller, dwindle, go far away, go into distance, become tiny, walk into distance
pulse | open and close, close and reopen, open and shut, beat, throb, pulsate, heartbeat, heart beat, thump, beat like heart, blush, glow, breathe in love, love, fall
  in love, be in love, adore, radiate, beep, blink slowly, beat faster, pump, pound
pulse*.8@.7+float*.5 | kiss, blow kiss, smooch, give kiss, send love, send kiss, make kiss, cuddle, hug, embrace, snuggle,
  give hug, hug tightly, squeeze, caress, pet, show love, swoon
pulse*.7@1.8 | clap together, clap, applaud, clap hand, bravo, slap, snap, flap, flap wing, snap finger, pop, chop, clap along
pulse*.5+flicker*.5@.7 | shine, sparkle, gleam, glitter, shimmer, glisten, glint, dazzle
breathe | breathe, inhale, exhale, breathe deeply, live
breathe*1.7@2.5+droop*.5 | perspire, be out of breath, pant, sweat, be hot, gasp for air, breathe heavily, catch breath, overheat, work out
breathe*1.7@.8+tilt*.35 | sleep, snore, nap, doze, snooze, slumber, take nap, fall asleep, hibernate, zzz, doze off,
  nod off, go to sleep, have nap, sleep tight, good night, goodnight, go to bed, drift off, sleep peacefully
breathe*1.4+float*.8 | meditate, do yoga, levitate gently, zen, hover peacefully
slide ? | careen, snowboard, skateboard, sled, advance, slide, glide, move, skate, ski, scoot, slip, shift, drift away to side, move over, march away
slide left | move left, go left, slide left, to left, step left, turn left
slide right | move right, go right, slide right, to right, step right, turn right, left to right, from left to right,
  move from left to right, move across screen
slide ?+bounce*.25 | drive, ride, ride bike, cycle, pedal, drive away, travel, commute, speed, race, drive car, zoom by, zoom past
slide ?+waddle*.4@.8 | moonwalk, sneak, creep, crawl, tiptoe, sneak around, sneak away, prowl, inch along, stalk
fly | take off, lift off, blast off, launch, soar, ascend, fly away, fly off, rocket, fly into sky, go up, rise up,
  shoot up, float away, drift away, fly up, go to heaven, climb, soar into sky, take flight, escape, levitate up
fall | hurtle, hurtle down, flop, flop down, nosedive, skydive, tumble down, fall down, drop, plummet, plunge, sink, crash, fall from sky, descend, go down, drown, free fall, crash down
fall@.9 | hide, hide away, duck out of sight, vanish below
fall@.6+sway*.6 | fall like leaf, float down, drift down, snow, parachute, flutter down, rain
float | fly, hover, levitate, drift, bob, up and down, bob up and down, move up and down, fly around, go up and down,
  float in air, float in space, float around, sail, flutter, glide through air, soar around, fly in place
float*1.2+pulse*.5 | be in heaven, bless, fall head over heels, be enchanted
melt | thaw, dissolve, liquefy, melt away, drip, ooze
stretch | sprout, lift weights, weightlift, rear up, raise, stretch up, stretch tall, grow tall, stand up, reach, reach up, wake up, get up, elongate, yawn, lift, lift weight, stand tall, rise and
  shine, wake, stretch arm, do exercise, flex, flex muscle, raise hand, raise arm
stretch*.45@1.3 | shrug, shrug shoulder, perk up, notice, have idea, get idea, look up, eureka, inflate chest, raise
  eyebrow, peek up, aha, realize, be surprise
squash | squish, flatten, get squashed, be squashed, get squash, crouch, duck, get flatten, be crush, crush, get crush, squat, do squat, smash,
  press down, get squish, hunch, do push up, push up
squash*.5@1.3 | blink, blink eye, wince, cringe, squint, giggle quietly, gulp
circle | circle around, go in circle, move in circle, run in circle, stir, go around, fly in circle, mix, circle around
circle*.7@.8+sway*.6 | look dizzy, head spin, roll eye
waddle | swagger, lumber, walk along, walk on by, march along, walk, stroll, march, stride, wander, step, toddle, hike, wade, walk around, go for walk, strut, patrol, walk dog,
  parade, saunter, shuffle, amble, trudge, plod
waddle*1.2@1.5 | tap dance, walk fast, hurry, walk quickly, power walk
dance | jive, cavort, sashay, party hard, shuffle dance, groove, boogie, disco, twist, salsa, samba, waltz, breakdance, dance around, do twist, party dance, tango, floss,
  get down, bust move, jam, ballet, dance to music, shake body, dab
run | scamper, scuttle, hightail, speed, whizz, zip, zip past, whizz by, retreat, gallop away, jog, sprint, dash, rush, flee, chase, run away, run around, bolt, scurry, run fast, go fast, hurry up, hasten
ripple | undulate, flutter like flag, wave in wind, wave like flag, flap in wind, billow, blow like flag
swirl | twist, swirl around, whirlpool, vortex, spiral, warp, distort, contort
vanish | disappear, vanish, poof, go away in puff, teleport, teleport away, be gone, vanish into thin air, shrink away
topple | sprawl, conk out, crumble, crumple, faint, fall over, collapse, pass out, tip over, keel over, die, drop dead, black out, get knock out, knock out,
  lie down, collapse to ground, fall flat, trip, lose consciousness, go unconscious, be dead, fall to ground, perish,
  topple over, get shot, slip and fall, face plant, faceplant, play dead, fall on back, tip
droop | languish, grieve, mourn, despair, drool, cower, crumple down, be ashamed, sag, slump, wilt, sigh, give up, lose hope, get tired, wither, lower head, hang head, sulk, mope, frown, pout, hide
  face, be sad, feel sad, get sad, shrink back, be bored, surrender, lose
lunge | clobber, duel, jab, snap at, headbutt, swat at, spar, attack, punch, kick, fight, strike, hit, box, stab, charge, slash, swing sword, bite attack, thrust, throw punch,
  swing weapon, shoot, fire, fire gun, push, poke, hit ball, strike down, slash sword, cast spell, point, point finger
lunge*.7@1.6+tremble*.6 | get hit, be hit, take damage, recoil, get hurt, ouch, get punch, hurt, take hit
lunge*.5@.8+droop*.3 | guzzle, chug, slurp drink, drink, sip, gulp down, drink coffee, drink tea, pour, toast, clink, drink beer, sip tea
flip | spin like coin, flip over, turn over, flip, turn page, flip coin, turn like coin, flip like card, flip around, rotate in 3d
flicker | flicker, flash, flash on and off, blink on and off, twinkle, strobe, blink light, flicker like candle
wobble*.7@3+tremble*1.6+flicker*.4@1.5 | glitch, short circuit, malfunction, be electrocute, get shock, electrocute, get electrocute, glitch out
fade | fade, fade out, fade away, fade to nothing, become invisible, turn invisible, evaporate, go out, become transparent
explode | disintegrate, fall apart, break apart, break, crack, implode, explode, burst, blow up, detonate, go boom, boom, erupt, kaboom, pop like balloon, combust, mind blow, explode into
  piece, shatter, pop open, blast
exit | exit, leave, go away, walk away, get out, depart, walk off, move off screen, slide out, go off, walk out, leave
  screen, run off, go out of frame, drive off, slide away, fly out, say goodbye and leave, step out
enter | enter, come in, arrive, walk in, run in from side, slide in, come into view, move in, come from side, fly in, come, drive in,
  enter screen, get in, roll in, join, step in, return, come back, swoop in
appear | appear, pop up, show up, pop in, materialize, materialise, emerge, be born, spawn, pop out, zoom into view, hatch, come
  into existence, respawn, come out of nowhere, bloom, blossom
fade in | fade in, become visible, turn visible, fade into view, slowly appear, gradually appear
drop in | drop in, fall in, come from above, come from top, fall from above, drop from above, land, drop in from above, enter
  from top, enter from above, come down from sky, fall into place, come down, come in from top, fall from top
rise | rise, come up, come from below, come from bottom, rise from below, surface, sunrise, rise from ground, enter from below,
  enter from bottom, come in from bottom, come in from below, rise up from below, come out of ground
peek | peek, peek out, peekaboo, play peekaboo, peep, hide and seek, duck and cover, peer out, play hide and seek, boo
stand | stand still, stay still, be still, motionless, hold still, freeze in place, statue, pause, do nothing, stand in place, no
  motion, no movement, static, stop, still image, remain still, stay in place, keep still, immobile, stand perfectly still,
  frozen, do not move, sit still, without motion, without movement, unmoving, paralyze
"""

# Moods and states: they move it if no action is named.
_MOODS = """
tremble*1.4+pulse*.5 | angry, furious, mad, enraged, irate, grumpy, annoyed, pissed off, livid, outraged, irritated
tremble | scared, afraid, terrified, frightened, fear, horrified, anxious, nervous, freezing, freezing cold, panicked, panic,
  spooked, worried, stressed
droop | sad, tired, depressed, exhausted, sleepy, disappointed, unhappy, heartbroken, lonely, bored, gloomy, upset, feel blue,
  sick, ill, hopeless, weary, miserable, melancholy, sorrow, grief, burned out, defeated, gloom, homesick, guilty
jump*.7@1.2+sway*.5 | happy, excited, joyful, overjoyed, cheerful, joy, delighted, ecstatic, thrilled, hyped, over moon, happy
  birthday, congratulations, victorious, hyper, proud, glad, happiness, energetic
pulse@.9+float*.5 | in love, loving, love, lovely, enamored, romantic, infatuated, smitten, grateful, head over heel
jump*.5@1.5+stretch*.6 | shocked, surprised, amazed, astonished, startled, wow, omg, stunned, surprise, shock, wtf, mind blown
sway*.6@.7 | confused, puzzled, curious, unsure, skeptical, suspicious, thoughtful, doubtful, huh, clueless, interested
sway*.5+breathe | relaxed, cool, confident, cozy, peaceful, content, satisfied, calm, smug
sway*1.1@.8+circle*.35@.8 | dizzy, drunk, tipsy, nauseous, hungover, woozy, disoriented
nod@1.4+squash*.25@1.4 | hungry, starving, delicious, yummy, tasty, yum
sway*.5+squash*.2 | embarrassed, shy, blushing, ashamed, awkward, flustered, bashful
dance | crazy, party, silly, funky, disco
breathe*1.7@2.5+droop*.5 | hot, sweaty, overheated, thirsty, out of breath
topple | dead, unconscious, fainted
"""

_COMPOUNDS = (
    r"(?:running|walking|tennis|dancing|bowling) shoes?|sleeping (?:bag|beauty)|walking (?:stick|cane)|"
    r"rocking (?:chair|horse)|swimming (?:pool|trunks|suit)|shooting star|flying (?:saucer|carpet|disc)|"
    r"boxing gloves?|fishing (?:rod|pole|boat)|bowling (?:ball|pin)|spinning (?:top|wheel)|racing car|"
    r"washing machine|sewing machine|rolling pin|frying pan|shopping (?:bag|cart)|burning man|"
    r"wedding rings?|hot (?:dog|air balloon|pot)|cold (?:drink|beer)|ice cold|love letter|"
    r"falling star|building|living room|jump rope|ping pong|drinking straw|fire engine|fire truck|"
    r"facing (?:left|right)|driving license|punching bag|parking|crying shame|warning sign|cool button|ring box|"
    r"heart shaped?|waiting room|dining table|cutting board|talking stick|traffic light|"
    r"still life|stop sign|chewing gum|skating rink|rest room|no entry|no smoking"
)
_FILLERS = frozenset(
    "a an the its his her their my your our it so some this that very really".split()
)
_STARTS = frozenset("a an the it he she this my they".split())
_PARTICLES = frozenset(
    "up down away around left right high fast slow slowly quickly to please off there again by forever "
    "over and then back once twice times three four two five in out for me a lot little bit with place repeatedly together happily".split()
)  # fmt: skip
_AMBIGUOUS = frozenset(
    "leaves waves rolls drops falls rings swings flies shakes slides bows springs rocks hits fires points "
    "boxes lands bolts drums hammers brushes flames lists loops skis".split()
)  # fmt: skip
_AT_THE_END = frozenset("hot cold cool ill crazy silly party".split())  # else of the next word
_NOT = frozenset("not no never without stop stops stopped neither nor cannot cant dont".split())
_COUNTS = {"once": 1, "one": 1, "twice": 2, "two": 2, "thrice": 3, "three": 3, "four": 4, "five": 5}
_LITTLE = (
    *AMOUNT_WORDS["little"],
    "a bit",
    "barely",
    "lightly",
    "subtly",
    "a tiny bit",
    "tiny bit",
)
_MUCH = (
    *AMOUNT_WORDS["much"],
    "violently",
    "hard",
    "high",
    "extremely",
    "super",
    "crazily",
    "heavily",
    "intensely",
)
_SLOW = (*SPEED_WORDS["slow"], "slow", "lazily", "gradually", "calmly", "leisurely")
_FAST = (
    *SPEED_WORDS["fast"],
    "quick",
    "swiftly",
    "hurriedly",
    "faster",
    "frantically",
    "at top speed",
    "super fast",
)
_DEGREES = {"little": _LITTLE, "much": _MUCH}
_PACES = {"slow": _SLOW, "fast": _FAST}
# Verbs that go somewhere when a side is named with them.
_GOES = frozenset({"run", "waddle", "jump", "bounce", "float", "fly", "dance", "wobble"})
_MOST_VERBS, _MOST_ACTS = 3, 3
_IDLE = "sway*.22@.8+breathe*.8"


@dataclass(frozen=True)
class _Entry:
    """A phrase as words, what it asks for, and whether it is a mood."""

    words: tuple[str, ...]
    recipe: str
    is_mood: bool


@cache
def _entries() -> tuple[_Entry, ...]:
    found: dict[tuple[str, ...], _Entry] = {}
    for verb in VERBS.values():
        for phrase in (*verb.gerunds, *([verb.name] if verb.name != "stand" else [])):
            words = _bare(phrase.split())
            found[words] = _Entry(words, verb.name, False)
    for table, is_mood in ((_ACTIONS, False), (_MOODS, True)):
        for line in table.strip().replace("\n  ", " ").splitlines():
            recipe, asked = (part.strip() for part in line.split("|"))
            for phrase in asked.split(","):
                words = _bare(phrase.split())
                found.setdefault(words, _Entry(words, recipe, is_mood))
    return tuple(found.values())


@cache
def _by_first_word() -> dict[str, tuple[_Entry, ...]]:
    """Entries by their first word, the longest first."""
    index: dict[str, list[_Entry]] = {}
    for entry in sorted(_entries(), key=lambda entry: -len(entry.words)):
        index.setdefault(entry.words[0], []).append(entry)
    return {form: tuple(entries) for form, entries in index.items()}


def _bare(words: list[str]) -> tuple[str, ...]:
    return tuple(word for word in words if word not in _FILLERS)


@cache
def _forms(word: str) -> frozenset[str]:
    """What the word may be an ending of: "waving" → waving, wave, wav."""
    forms = {word}
    if len(word) > 4 and word.endswith("ing"):
        stem = word[:-3]
        forms |= {stem, f"{stem}e"}
        if len(stem) > 2 and stem[-1] == stem[-2]:
            forms.add(stem[:-1])
        if stem.endswith("y"):
            forms.add(f"{stem[:-1]}ie")
        if stem.endswith("ck"):
            forms.add(stem[:-1])
    elif len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        forms |= {word[:-1], word[:-2] if word.endswith("es") else word[:-1]}
        if word.endswith("ies"):
            forms.add(f"{word[:-3]}y")
    return frozenset(forms)


@dataclass(frozen=True)
class _Found:
    entry: _Entry
    start: int
    end: int
    is_negated: bool


def motion_of(words: str) -> MotionDraw | None:
    """The motion that words ask for; None if they name none.

    Whole phrases count, the longest first ("bouncing like a ball" before "bouncing"). Several verbs
    are done at once, or one after the other where "then" is between them. A side, a count, how
    much and how fast may be said; moods count where no action is named; "not" takes a verb back.
    """
    text = re.sub(r"n['’]t\b", " not", words.lower())
    text = re.sub(r"\b(?:in )?slow motion\b", "slowly", text)
    parts = re.split(r"\b(?:and |, *)?(?:then|after that|afterwards|followed by)\b|->|→", text)
    acts = [act for act in map(_act, parts) if act is not None][:_MOST_ACTS]
    if not acts:
        return None
    said = ", then ".join(act.said for act in acts)
    return replace(acts[0], then=tuple(acts[1:]), said=said)


def idle_motion() -> MotionDraw:
    """What a still does when no motion is asked for: it breathes and sways a little."""
    return replace(_draw([_IDLE], 0), said="no motion named")


def _act(text: str) -> MotionDraw | None:
    """What one part of a sentence asks for."""
    text = re.sub(rf"\b(?:{_COMPOUNDS})\b", " thing ", text)
    tokens = re.findall(r"[a-z]+|\d+|,", text)
    kept = [(token, index) for index, token in enumerate(tokens) if token not in _FILLERS]
    bare = [token for token, _ in kept]
    found = _find(bare, tokens, [index for _, index in kept])
    actions = [one for one in found if not one.entry.is_mood] or found
    wanted = [one for one in actions if not one.is_negated]
    if not wanted:
        still = [one for one in actions if one.is_negated]
        return replace(_draw(["stand"], 0), said=text.strip()) if still else None
    places = [index for _, index in kept]
    used = {places[index] for one in found for index in range(one.start, one.end)}
    rest = [token for index, token in enumerate(tokens) if index not in used]
    draw = _with_adverbs([one.entry.recipe for one in wanted], rest)
    said = " ".join(" ".join(bare[one.start : one.end]) for one in wanted)
    return replace(draw, said=said)


def _find(bare: list[str], tokens: list[str], places: list[int]) -> list[_Found]:
    """Phrases in a text without fillers; `places`: where each word is among all `tokens`."""
    found, index = [], 0
    while index < len(bare):
        entry = _entry_at(bare, index, tokens, places)
        if entry is None:
            index += 1
            continue
        before = bare[max(0, index - 2) : index]
        negated = bool(_NOT & set(before)) and entry.recipe != "stand"
        found.append(_Found(entry, index, index + len(entry.words), negated))
        index += len(entry.words)
    return found


def _entry_at(bare: list[str], index: int, tokens: list[str], places: list[int]) -> _Entry | None:
    candidates = [
        entry
        for form in sorted(_forms(bare[index]))
        for entry in _by_first_word().get(form, ())
        if len(entry.words) <= len(bare) - index
        and all(word in _forms(bare[index + offset]) for offset, word in enumerate(entry.words))
        and _counts(entry, bare, index, tokens, places)
    ]
    return max(
        candidates,
        key=lambda entry: (len(entry.words), not entry.is_mood, entry.words[0] == bare[index]),
        default=None,
    )


def _counts(
    entry: _Entry, bare: list[str], index: int, tokens: list[str], places: list[int]
) -> bool:
    """Whether a word is used as a verb here, as far as its form and its neighbours tell."""
    word, length = bare[index], len(entry.words)
    if word in _AT_THE_END:
        return index + length == len(bare) or bare[index + length] in ("face", ",", "and")
    if entry.is_mood or word.endswith("ing") or word in ("motionless", "still"):
        return True
    clause = index
    while clause > 0 and bare[clause - 1] not in (",", "and", "while", "but"):
        clause -= 1
    if clause == index or bare[clause:index] == ["not"] or bare[index - 1] in ("to", "can", "will"):
        if word.endswith("s") and word not in _AMBIGUOUS and word != entry.words[0]:
            return True
        after = bare[index + length :]
        stop = next(
            (i for i, token in enumerate(after) if token in (",", "and", "while")), len(after)
        )
        return length > 1 or all(_is_particle(token) for token in after[:stop])
    if bare[index - 1] in _NOT - {"without"}:
        return True
    if not word.endswith("s"):
        return length > 2
    article = tokens[max(0, places[clause] - 1)], tokens[places[clause]]
    return word not in _AMBIGUOUS or bool(_STARTS & set(article))


def _is_particle(token: str) -> bool:
    degrees = (*_LITTLE, *_MUCH, *_SLOW, *_FAST)
    return token in _PARTICLES or token in degrees or token.isdigit() or token.endswith("ly")


def _with_adverbs(recipes: list[str], rest: list[str]) -> MotionDraw:
    """The motion of recipes, with side, count, amount and speed as the other words say."""
    text = " ".join(rest)
    draw = _draw(recipes, _side(text))
    amount, speed = _said(text, _DEGREES), _said(text, _PACES)
    count = next((_COUNTS[token] for token in rest if token in _COUNTS), 0)
    times = re.search(r"\b(\d+|[a-z]+) times\b", text)
    if times:
        count = int(times[1]) if times[1].isdigit() else _COUNTS.get(times[1], 0)
    return replace(
        draw,
        amount=amount,
        speed=speed,
        amount_factor=sum(AMOUNTS[amount]) / 2 if amount else 1.0,
        speed_factor=sum(SPEEDS[speed]) / 2 if speed else 1.0,
        cycles=min(count, 8),
    )


def _side(text: str) -> int:
    """−1 to the left, 1 to the right, 0 = not said."""
    if re.search(r"\b(left|leftwards?|counterclockwise|counter clockwise|anticlockwise)\b", text):
        return -1
    return 1 if re.search(r"\b(right|rightwards?|clockwise)\b", text) else 0


def _draw(recipes: list[str], side: int) -> MotionDraw:
    """A motion of recipes such as "sway*.8@2+breathe"."""
    verbs: dict[str, tuple[float, float]] = {}
    for recipe in recipes:
        for part in recipe.split("+"):
            name, amount, speed = re.fullmatch(
                r"([a-z ]+\??)(?:\*([\d.]+))?(?:@([\d.]+))?", part
            ).groups()  # type: ignore[union-attr]
            name = name.strip()
            if name == "slide ?":
                name, side = ("slide left" if side < 0 else "slide right"), side or 1
            deforms = VERBS[name].deform and any(VERBS[verb].deform for verb in verbs)
            if name not in verbs and not deforms:
                verbs[name] = (float(amount or 1), float(speed or 1))
    names = list(verbs)[:_MOST_VERBS]
    towards = {-1: "slide left", 1: "slide right"}.get(side)
    if towards and set(names) & _GOES and not any("slide" in name for name in names):
        names.append(towards)
        verbs[towards] = (1.0, 1.0)
    if "slide left" in names or "slide right" in names:
        side = -1 if "slide left" in names else 1
    return MotionDraw(
        verbs=tuple(names),
        shares=tuple(verbs[name] for name in names),
        side=side or 1,
        says_side=side != 0,
    )


def _said(text: str, words: dict[str, tuple[str, ...]]) -> str:
    """Which of the degrees is said, "" if none."""
    for degree, said in words.items():
        if any(re.search(rf"\b{re.escape(phrase)}\b", text) for phrase in said):
            return degree
    return ""
