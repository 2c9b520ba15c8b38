/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
 *
 * Peer, vsnoop and guest of one connection, small enough to look at every course it can take:
 *
 *   Peer --to_snoop--> Snoop --ring--> Guest       links to and from the peer lose messages,
 *   Peer <--to_peer--- Snoop <-from_guest- Guest   the guest drops frames and sleeps, the ring
 *                                                  vanishes: LOSSES, DROPS, NAPS, VANISHES times;
 *                                                  vsnoop is quiesced PAUSES times, gives up
 *                                                  GIVEUPS times; CLOSES: the last segment is the
 *                                                  peer's FIN, and the guest may close its half
 *
 * A unit is a segment; sequence numbers count from 0 to N. Time passes only when nobody can do
 * anything else (Clock): a tick is longer than any timer. Rules of docs/ack-rules.md stand as labels
 * before their transitions; which of them have none, and why:
 *   P0 P2 P8 P9 P10 P12   nothing but a number in order and an end exists here
 *   G6                    the guest does not reset; a ring that is gone for good stands for it
 *   G9                    there are no paths here
 * tests/model/model_test.py keeps labels, list, documents and code together; and it plays courses
 * of the model, which COURSE prints, to the engine itself.
 *
 * Deliberate faults, each of which the checker must find: NO_REDELIVERY, NO_WINDOW_CHECK,
 * ACK_BEFORE_TAKEN, SWALLOW_NEWS, NO_REBASE, NO_RESET, RESET_ONCE, FIN_PROMISED, LOST_WHEN_PAUSED.
 */
#ifndef N
#define N 3 /* segments of the stream, at most 4 */
#endif
#ifndef WINDOW
#define WINDOW 2 /* the guest's buffer, segments */
#endif
#ifndef BUDGET
#define BUDGET 2 /* segments that vsnoop can hold, beyond what it invites nobody */
#endif
#ifndef LOSSES
#define LOSSES 1
#endif
#ifndef DROPS
#define DROPS 1
#endif
#ifndef NAPS
#define NAPS 1
#endif
#ifndef VANISHES
#define VANISHES 1
#endif
#ifndef PAUSES
#define PAUSES 1 /* quiesce, and a resume some time later */
#endif
#ifndef GIVEUPS
#define GIVEUPS 0 /* fail-stop although the ring is there */
#endif
#ifndef CLOSES
#define CLOSES 0 /* orderly shutdown */
#endif
#define NOTHING 255 /* a keep-alive */
#ifdef COURSE
#define said(...) printf(__VA_ARGS__)
#else
#define said(...) skip
#endif

#define max(a, b) ((a) > (b) -> (a) : (b))
#define min(a, b) ((a) < (b) -> (a) : (b))

mtype = { segment, reset };
mtype:custody = { waiting, in_ring, delivered };
#define absent 0

chan to_snoop = [2] of { byte };               /* sequence number */
chan to_peer = [2] of { mtype, byte, byte };   /* ACK, right edge */
chan ring = [2] of { byte, bool };             /* sequence number, retained */
chan from_guest = [2] of { byte, byte };       /* ACK, right edge */
chan line = [N] of { byte };                   /* what waits for the ring, in its order */

/* The peer. */
byte una, nxt, peer_edge = WINDOW;
bool peer_reset;
/* vsnoop: names as in the rules. */
byte rcv_nxt, early_ack, guest_ack, right_edge = WINDOW, shown_edge = min(WINDOW, BUDGET);
mtype:custody custody[6]; /* the last are never used: an index may be N */
/* A recovery: until guest_ack gets to `recover`; what is to be delivered again, what was and is not
 * confirmed, and how many of these there may be. */
bool recovering, again[6], flying[6];
byte recover, burst;
bool credit, stopped, paused, touched /* ever promised (I5) */;
/* The guest. */
byte guest_rcv, guest_read;
bool guest_has[6];
bool asleep, ring_gone;
bool half_closed; /* the guest has sent its FIN */
/* What may go wrong, how often yet. */
byte losses = LOSSES, drops = DROPS, naps = NAPS, vanishes = VANISHES, pauses = PAUSES,
     giveups = GIVEUPS, closes = CLOSES;
byte repeats = LOSSES; /* of a reset; as often as one may be lost */
/* Timers that went off. */
bool peer_timer, snoop_timer;
/* What the peer has been shown, as messages were sent. */
byte seen_ack, seen_edge;
bool moved_left;
bool swallowed; /* an answer that was owed, or news */

#define above_a_hole(s) ((s) > rcv_nxt && custody[s] != absent)
#define at_a_hole (above_a_hole(1) || above_a_hole(2) || above_a_hole(3))
/* P1: inside the guest's window and the one shown. */
#ifdef NO_WINDOW_CHECK
#define invited(s) ((s) < N)
#else
#define invited(s) ((s) < right_edge && (s) < shown_edge)
#endif
/* P7: the end of the stream is the guest's alone. */
#ifdef FIN_PROMISED
#define is_fin(s) false
#else
#define is_fin(s) (CLOSES > 0 && (s) == N - 1)
#endif
/* No new promises. What vsnoop has promised on before is taken into custody all the same. */
#define hands_back (paused || half_closed)
#define all_arrived (guest_rcv == N && una == N)
#define over (all_arrived || peer_reset)

inline tell(a, e) {
  moved_left = moved_left || a < seen_ack || e < seen_edge;
  seen_ack = a;
  seen_edge = e;
  said("tell %d %d\n", a, e);
  if
  :: to_peer!segment(a, e)
  :: losses > 0 -> losses--
  fi
}

inline tell_reset() {
  said("tell-reset %d\n", guest_ack);
  if
  :: to_peer!reset(0, 0)
  :: losses > 0 -> losses--
  fi
}

proctype Peer() {
  byte a, e;
end:
  do
  :: atomic { !peer_reset && nxt < N && nxt < peer_edge && nfull(to_snoop) ->
       if
       :: to_snoop!nxt
       :: losses > 0 -> losses--
       fi;
       nxt++
     }
  :: atomic { to_peer?segment(a, e) ->
       una = max(una, a);
       nxt = max(nxt, una);
       peer_edge = max(peer_edge, e)
     }
  :: atomic { to_peer?reset(a, e) -> peer_reset = true }
  :: atomic { peer_timer && nfull(to_snoop) ->
       peer_timer = false;
       if
       :: una < N && una < peer_edge -> to_snoop!una; nxt = max(nxt, una + 1)
       :: una < N && una >= peer_edge -> to_snoop!una /* window probe */
       :: una == N -> to_snoop!NOTHING                /* keep-alive */
       :: una == N                                    /* few have one */
       fi
     }
  od
}

/* Raises early_ack as far as I1 and I2 allow. */
inline promise() {
#ifdef NO_WINDOW_CHECK
  early_ack = max(early_ack, rcv_nxt);
#else
  early_ack = max(early_ack, min(rcv_nxt, min(right_edge, shown_edge)));
#endif
  shown_edge = max(shown_edge, early_ack);
  touched = true
}

inline wait(s) {
  custody[s] = waiting;
  line!s
}

#define under_way (flying[0] + flying[1] + flying[2] + flying[3])
#define first_again (again[0] -> 0 : (again[1] -> 1 : (again[2] -> 2 : 3)))
#define may_redeliver ((again[0] || again[1] || again[2] || again[3]) && under_way < burst)

inline forget_again() {
  k = 0;
  do
  :: k < N -> again[k] = false; flying[k] = false; k++
  :: else -> break
  od
}

/* No SACK here: what the guest took out of the ring below `recover` may all be lost. */
inline find_missing() {
  k = guest_ack;
  do
  :: k < recover && (again[k] || flying[k]) -> k++
  :: k < recover && !again[k] && !flying[k] && custody[k] == delivered -> again[k] = true; k++
  :: else -> break
  od
}

/* G7: if the guest took the first missing segment out of the ring, and it is not about to enter it. */
inline redeliver() {
  if
#ifndef NO_REDELIVERY
  :: early_ack > guest_ack && custody[guest_ack] == delivered &&
     !(again[guest_ack] && may_redeliver) ->
    forget_again();
    recovering = true;
    recover = rcv_nxt;
    burst = 1;
    find_missing()
#endif
  :: else
  fi
}

/* An ACK during a recovery: the burst grows by what arrived; if more arrived than was delivered
 * again, it begins anew. */
inline review() {
  k = 0;
  more = false;
  do
  :: k < guest_ack ->
    burst = burst + flying[k];
    more = more || again[k];
    again[k] = false;
    flying[k] = false;
    k++
  :: else -> break
  od;
  burst = (more -> 1 : min(burst, N));
  more = false;
  if
  :: guest_ack < recover -> find_missing()
  :: else -> recovering = false; recover = 0; burst = 0
  fi
}

/* I2b: what can be shown beyond guest_ack is what can be held. */
inline grant() { shown_edge = max(shown_edge, min(right_edge, guest_ack + BUDGET)) }

inline forward(s) { /* unpromised: into the ring, or there is no room */
  if
  :: nempty(line) || full(ring) || ring_gone -> said("lost\n")
  :: empty(line) && nfull(ring) && !ring_gone -> said("push %d\n", s); ring!s(false)
  fi
}

proctype Snoop() {
  byte s, a, e, i, j, k;
  bool dup, covered, opens, more;
end:
  do
  :: atomic { nfull(to_peer) && nempty(to_snoop) ->
       to_snoop?s;
       said("peer %d\n", s);
       if
       :: stopped ->
#ifndef NO_RESET
         tell_reset() /* a tombstone */
#else
         skip
#endif
       :: !stopped && s == NOTHING -> credit = true; forward(0)
       :: !stopped && s != NOTHING && s < early_ack && touched ->
P3:      tell(early_ack, shown_edge)
       :: !stopped && s != NOTHING && s < early_ack && !touched -> /* I5: the guest speaks */
         credit = true;
         forward(s)
       :: !stopped && s != NOTHING && s >= early_ack && !invited(s) && s >= right_edge ->
P6:      credit = true;
         forward(s)
       :: !stopped && s >= early_ack && !invited(s) && s < right_edge ->
         /* the closure is vsnoop's */
         grant();
         tell(early_ack, shown_edge)
       :: !stopped && s >= early_ack && invited(s) && s < rcv_nxt && hands_back ->
         if
         :: nempty(line) /* it is on its way */
         :: empty(line) -> credit = true; forward(s)
         fi
       :: !stopped && s >= early_ack && invited(s) && s < rcv_nxt && !hands_back ->
P3b:     promise();
         tell(early_ack, shown_edge)
       :: !stopped && s >= early_ack && invited(s) && s >= rcv_nxt && is_fin(s) ->
P7:      credit = true;
         forward(s)
       :: !stopped && invited(s) && s == rcv_nxt && !is_fin(s) && hands_back && touched ->
         /* held, and not promised */
#ifdef LOST_WHEN_PAUSED
         rcv_nxt++
#else
         wait(s);
         do
         :: rcv_nxt < N && custody[rcv_nxt] != absent -> rcv_nxt++
         :: else -> break
         od
#endif
       :: !stopped && invited(s) && s == rcv_nxt && !is_fin(s) && !hands_back ->
#ifdef ACK_BEFORE_TAKEN
         rcv_nxt++;
         promise();
         tell(early_ack, shown_edge);
         if
         :: wait(s)
         :: rcv_nxt < N /* the host declines it */
         fi
#else
         if
         :: s + 1 < N && custody[s + 1] != absent && custody[s + 1] != in_ring ->
P5:        skip /* as P1: advances over what is held */
         :: else ->
P1:        skip
         fi;
         wait(s);
         do
         :: rcv_nxt < N && custody[rcv_nxt] != absent -> rcv_nxt++
         :: else -> break
         od;
         promise();
         tell(early_ack, shown_edge)
#endif
       :: !stopped && invited(s) && s > rcv_nxt && !is_fin(s) && !hands_back ->
P4:      assert(custody[s] == absent);
         wait(s)
       :: !stopped && invited(s) && s != NOTHING && !is_fin(s) && hands_back &&
          (s > rcv_nxt || (s == rcv_nxt && !touched)) -> /* not promised for */
         forward(s)
       fi
     }
  :: atomic { nfull(to_peer) && nempty(from_guest) ->
       from_guest?a, e;
       if
       :: stopped
       :: !stopped ->
         /* not a window update; one stands for as many as it takes (RFC 5681 3.2) */
         dup = (a == guest_ack && a < early_ack && e == right_edge && !recovering);
         said("guest %d %d\n", a, e);
         if
         :: dup -> said("dup\n")
         :: else
         fi;
         covered = (a > guest_ack);
G1:      guest_ack = max(guest_ack, a);
         right_edge = max(right_edge, e);
         rcv_nxt = max(rcv_nxt, guest_ack);
         i = 0;
         do
         :: i < guest_ack ->
           if
           :: custody[i] == waiting -> line??eval(i); custody[i] = absent
           :: custody[i] == delivered -> custody[i] = absent
           :: else
           fi;
           i++
         :: else -> break
         od;
         do
         :: rcv_nxt < N && custody[rcv_nxt] != absent -> rcv_nxt++
         :: else -> break
         od;
         if
         :: dup ->
G7:        redeliver()
         :: covered && recovering -> review()
         :: else
         fi;
         covered = touched && (a < early_ack || (a == early_ack && covered && !at_a_hole));
         opens = (min(right_edge, guest_ack + BUDGET) > shown_edge);
         if
#ifdef SWALLOW_NEWS
         :: a <= early_ack + 1 && !opens ->
#else
         :: covered && !credit && !opens ->
#endif
G4:        said("swallow\n");
           swallowed = swallowed || credit || a > seen_ack
         :: else ->
G2:        credit = false;
           grant();
#ifdef NO_REBASE
           tell(a, shown_edge)
#else
           early_ack = max(early_ack, a);
           shown_edge = max(shown_edge, early_ack);
           tell(early_ack, shown_edge)
#endif
         fi
       fi
     }
  /* Custody: what is to be delivered again enters the ring, then the first that waits. */
  :: atomic { !stopped && !ring_gone && (may_redeliver || nempty(line)) && nfull(ring) ->
       if
       :: may_redeliver ->
         i = first_again;
         again[i] = false;
         flying[i] = true;
         recover = rcv_nxt; /* or what waits: it comes after this one, and so is not lost */
         if
         :: nempty(line) -> line?<j>; recover = min(j, rcv_nxt)
         :: empty(line)
         fi
       :: else -> line?i
       fi;
       said("feed %d\n", i);
       custody[i] = in_ring;
       ring!i(true)
     }
  /* Ring lost: what was in it waits again; or the guest is gone for good: fail-stop. */
  :: atomic { vanishes > 0 && !stopped && nfull(to_peer) ->
       vanishes--;
       said("lose-ring\n");
       i = len(line); /* what came back stands before these, in its own order */
       do
       :: ring?s, dup ->
         if
         :: dup && s >= guest_ack && flying[s] -> forget_again(); wait(s)
         :: dup && s >= guest_ack && !flying[s] -> wait(s)
         :: dup && s < guest_ack -> custody[s] = absent
         :: else
         fi
       :: empty(ring) -> break
       od;
       do
       :: i > 0 -> line?j; line!j; i--
       :: else -> break
       od;
       if
       :: skip
       :: ring_gone = true;
          said("stop\n");
          if
          :: early_ack > guest_ack -> stopped = true;
#ifndef NO_RESET
            tell_reset()
#endif
          :: else -> peer_reset = true /* nothing was promised: the peer's own timers tell it */
          fi
       fi
     }
  :: atomic { pauses > 0 && !paused -> said("quiesce\n"); pauses--; paused = true }
  :: atomic { closes > 0 && !stopped ->
G8:    closes--;
       half_closed = true
     }
  /* Give-up: the guest takes it and never acknowledges. It may do so the next moment. */
  :: atomic { giveups > 0 && !stopped && early_ack > guest_ack && nfull(to_peer) ->
       giveups--;
       stopped = true;
#ifndef NO_RESET
       tell_reset()
#endif
     }
  /* Lost, it is asked for by nobody when all of the peer's bytes are acknowledged. */
  :: atomic { stopped && snoop_timer && repeats > 0 && nfull(to_peer) ->
       snoop_timer = false;
       repeats--;
#ifndef RESET_ONCE
#ifndef NO_RESET
       tell_reset()
#endif
#endif
     }
  :: atomic { snoop_timer && !stopped ->
       snoop_timer = false;
       said("timer\n");
G7t:   redeliver();
       if
       :: may_redeliver || len(line) > 0 -> said("waits\n")
       :: else -> said("rests\n")
       fi
     }
  od
}

/* Takes frames out of the ring and acknowledges; its application reads when it likes. */
proctype Guest() {
  byte s;
  bool retained;
end:
  do
  :: atomic { !asleep && nfull(from_guest) && nempty(ring) ->
       ring?s, retained;
       said("consumed %d\n", s);
       if
       :: retained && s < guest_ack -> custody[s] = absent
       :: retained && s >= guest_ack -> custody[s] = delivered
       :: else
       fi;
       if
       :: drops > 0 -> drops--
       :: true ->
         if
         :: s < guest_read + WINDOW -> guest_has[s] = true
         :: else
         fi;
         do
         :: guest_rcv < N && guest_has[guest_rcv] -> guest_rcv++
         :: else -> break
         od;
         from_guest!guest_rcv, guest_read + WINDOW
       fi
     }
  :: atomic { !asleep && guest_read < guest_rcv && nfull(from_guest) ->
       guest_read = guest_rcv;
       from_guest!guest_rcv, guest_read + WINDOW
     }
  :: atomic { !asleep && naps > 0 -> naps--; asleep = true }
  od
}

/* Time passes when nobody can do anything else. */
proctype Clock() {
end:
  do
  :: atomic { timeout && !over ->
       asleep = false;
       said("resume\n");
       paused = false;
       peer_timer = true;
       snoop_timer = true
     }
  od
}

init {
  atomic {
    run Peer();
    run Snoop();
    run Guest();
    run Clock()
  }
}

/* A promised segment is the guest's already, or vsnoop has it, or both are reset. */
#define kept(s) (s >= early_ack || guest_has[s] || custody[s] != absent || stopped || peer_reset)
#define hold_I1 (early_ack <= rcv_nxt)
#define hold_I2 (early_ack <= right_edge)
#define hold_I2b (shown_edge <= right_edge && (shown_edge <= guest_ack + BUDGET || shown_edge == early_ack))
#define hold_I3 (kept(0) && kept(1) && (N < 3 || kept(2)) && (N < 4 || kept(3)))
#define hold_I4 (!moved_left)
#define hold_I6 (!swallowed)

#define hold_P7 (CLOSES == 0 || early_ack < N || guest_ack == N)

ltl P7 { [] hold_P7 }
ltl I1 { [] hold_I1 }
ltl I2 { [] hold_I2 }
ltl I2b { [] hold_I2b }
ltl I3 { [] hold_I3 }
ltl I4 { [] hold_I4 }
ltl I6 { [] hold_I6 }
ltl all { [] (hold_I1 && hold_I2 && hold_I2b && hold_I3 && hold_I4 && hold_I6 && hold_P7) }
ltl no_hang { <> over }
