// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Faults that can be planted in the library while it is explored: NM__FAULT(name) is true if the name is chosen. */
#ifndef NM_TESTS_SCHED_FAULTS_H
#define NM_TESTS_SCHED_FAULTS_H

/* name, what is wrong then */
#define SCHED_FAULTS(X)                                                                                                \
    X(none, "nothing")                                                                                                 \
    X(freeze_without_barrier, "who freezes the stations looks at them before other processors see that")               \
    X(refuse_without_collecting, "a lease is refused while threads keep free buffers")                                 \
    X(never_thaw, "stations stay frozen when nobody is short of buffers any more")                                     \
    X(release_without_answer, "who puts a buffer into the depot does not look for those who wait")                     \
    X(no_look_after_unlock, "who serves those who wait does not look again after giving the lock back")                \
    X(letter_without_generation, "a letter ends the lease that the buffer has by then, whichever that is")             \
    X(depot_untagged, "the depot's head is the same again when the same buffer is on top again")                       \
    X(depot_tag_narrow, "the tag of the depot's head has one bit")                                                     \
    X(claim_after_look, "the compiler moves an owner's store behind the load that has to come after it")               \
    X(decide_without_compare, "who ends another's lease has it, also if the owner was first")                          \
    X(claim_without_barrier, "who ends another's lease looks for the owner's mark before that can be seen")            \
    X(overlook_letters, "a lease is refused while releases of others' leases are noted and not sent")                  \
    X(spill_unchecked, "an owner takes buffers out of its ring though the exchange has failed")                        \
    X(collect_once, "a lease is refused after one collection, whatever owners put back meanwhile")                     \
    X(refuse_unfrozen, "a lease is refused after a look at stations whose owners go on leasing and releasing")         \
    X(generation_before_mark, "between two looks at a lease that another may end the buffer can be leased again")      \
    X(arm_without_look, "a lease is left to those who waited when it began, and its event loop told to wait")          \
    X(leave_untold, "a wait whose time runs out leaves a buffer behind that an event loop waits for")                  \
    X(answer_without_collecting, "who releases into a frozen ring does not see to it that it is collected")            \
    X(index_miss_unproved, "who finds nothing does not look whether words were under way")                             \
    X(index_move_unannounced, "words go from bucket to bucket, and the sequence does not say so")                      \
    X(index_pin_without_key, "who has pinned an entry that looks right does not compare its key")                      \
    X(index_pin_busy, "an entry is pinned while its bytes are being changed")                                          \
    X(index_take_by_store, "a word is read, then emptied, whatever pins came in between")                              \
    X(index_move_by_store, "a word stands in its new place before it is taken from the old one")                       \
    X(index_replace_by_store, "a word is read, then replaced, whatever pins came in between")                          \
    X(index_seize_by_store, "a word without pins is marked busy, whatever pins came in between")                       \
    X(index_evict_by_store, "a word without pins is emptied, whatever pins came in between")                           \
    X(index_hold_by_store, "a word with pins is marked held, whatever pins came or went in between")                   \
    X(index_unpin_blind, "who unpins does not look whether the word still names its chunk")                            \
    X(index_unpin_untold, "the last unpin of a held entry does not go through the lock")

typedef enum sched_fault_name {
#define SCHED_FAULT_ENUM(name, text) SCHED_FAULT_##name,
    SCHED_FAULTS(SCHED_FAULT_ENUM)
#undef SCHED_FAULT_ENUM
} sched_fault_name;

extern sched_fault_name sched_fault;
#define NM__FAULT(name) (sched_fault == SCHED_FAULT_##name)

#endif
