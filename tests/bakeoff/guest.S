# A boot sector that dirties memory as the host asks while it runs; the host shares this memory.
#
# 0x8000: four sets, each {first page, pages, rate, flags}; flag 1: at random, flag 2: the rate is pages per tick
# 0x9000: page of each set that was written last
# At every tick of the PC's timer each set writes the pages that are due. Its rate is in pages per 2^32 ticks of the
# time-stamp counter, so that a lost tick loses no writes; with flag 2 it does. More pages than the set has are not due.

        .set sets, 0x8000
        .set places, 0x9000
        .code16
start:  cli
        xor     %ax, %ax
        mov     %ax, %ds
        in      $0x92, %al                      # the A20 line
        or      $2, %al
        out     %al, $0x92
        lgdt    gdtr
        mov     %cr0, %eax
        or      $1, %al
        mov     %eax, %cr0
        ljmp    $8, $protected

        .code32
protected:
        mov     $16, %ax
        mov     %ax, %ds
        mov     %ax, %ss
        mov     $0x7c00, %esp
        lidt    idtr
        mov     $0xfe, %al                      # no interrupt but the timer's
        out     %al, $0x21
        mov     $0x34, %al                      # 1,193,182 Hz / 4,773: 250 ticks a second
        out     %al, $0x43
        mov     $4773 & 255, %al
        out     %al, $0x40
        mov     $4773 >> 8, %al
        out     %al, $0x40
        rdtsc
        mov     %eax, last
        sti

forever:
        hlt
        rdtsc
        mov     %eax, %ecx
        sub     last, %ecx                      # ticks of the counter since then
        mov     %eax, last
        mov     $sets, %ebp
        mov     $places, %ebx
set:    mov     8(%ebp), %eax
        mov     %eax, %edx
        testb   $2, 12(%ebp)
        jnz     known
        mul     %ecx
known:  cmp     4(%ebp), %edx
        jbe     due
        mov     4(%ebp), %edx
due:    mov     %edx, %esi
        test    %esi, %esi
        jz      next
page:   testb   $1, 12(%ebp)
        jz      in_turn
        imul    $1664525, seed, %eax            # a linear congruential generator
        add     $1013904223, %eax
        mov     %eax, seed
        mull    4(%ebp)
        jmp     touch
in_turn:
        mov     (%ebx), %edx
        inc     %edx
        cmp     4(%ebp), %edx
        jb      stay
        xor     %edx, %edx
stay:   mov     %edx, (%ebx)
touch:  add     (%ebp), %edx
        shl     $12, %edx
        incl    (%edx)                          # a page of zeroes would cost no bandwidth
        dec     %esi
        jnz     page
next:   add     $16, %ebp
        add     $4, %ebx
        cmp     $sets + 64, %ebp
        jb      set
        jmp     forever

tick:   push    %eax
        mov     $0x20, %al                      # end of interrupt
        out     %al, $0x20
        pop     %eax
        iret

        .balign 8
gdt:    .quad   0, 0x00cf9a000000ffff, 0x00cf92000000ffff
gdtr:   .word   gdtr - gdt - 1
        .long   gdt
        .balign 8
idt:    .word   tick, 8, 0x8e00, 0              # number 8, the timer's
idtr:   .word   9 * 8 - 1
        .long   idt - 64
last:   .long   0
seed:   .long   1
        .org    510
        .word   0xaa55
