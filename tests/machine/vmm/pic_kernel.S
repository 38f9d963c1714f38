// SPDX-License-Identifier: BSL-1.0
//
// A guest of another kind: 32 bits, an ELF file without address fields in its header, segments of its own, no paging;
// and of the machine only what a PC of 1985 had: the 8259s, the 8254, COM1. It knows of no APIC.
//
// It says what its loader has told it, takes 20 ticks of the timer by IRQ 0, lets COM1 ask for a byte by IRQ 4, and
// ends with 0x31 at port 0xF4, or with 1 if something was wrong. Or it does what its last word says:
//
//   loop     hangs with interrupts off          halt     halts with interrupts off
//   idle     halts with interrupts on, and nothing comes
//   fault    a triple fault                     reset    resets the machine by port 0xCF9
    .set com1, 0x3F8
    .set first_command, 0x20
    .set first_mask, 0x21
    .set second_command, 0xA0
    .set second_mask, 0xA1
    .set ticks_wanted, 20

    .text
    .align 4
    .set magic, 0x1BADB002
    .set flags, 3 // modules on pages, and the memory is told
    .long magic, flags, -(magic + flags)

    .code32
    .globl start
start:
    cli
    cld
    mov $stack, %esp
    cmp $0x2BADB002, %eax
    jne failed
    mov %ebx, information

    lgdt descriptors_pointer
    ljmp $0x18, $1f
1:  mov $0x20, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %fs
    mov %eax, %gs
    mov %eax, %ss

    mov $text_hello, %esi
    call say
    mov information, %ebx
    mov 16(%ebx), %esi
    call say
    call new_line

// What the loader has told: memory, and modules with the sum of their bytes.
    mov $text_memory, %esi
    call say
    mov 8(%ebx), %eax
    call say_number
    mov $text_map, %esi
    call say
    mov 44(%ebx), %ecx // bytes of the map
    mov 48(%ebx), %edi
    xor %eax, %eax
2:  cmp $0, %ecx
    jle 3f
    inc %eax
    mov (%edi), %edx
    add $4, %edx
    sub %edx, %ecx
    add %edx, %edi
    jmp 2b
3:  call say_number
    mov $text_ranges, %esi
    call say

    mov 20(%ebx), %ebp // modules
    mov 24(%ebx), %edi
4:  test %ebp, %ebp
    jz 6f
    mov $text_module, %esi
    call say
    mov 8(%edi), %esi
    call say
    mov $text_sum, %esi
    call say
    xor %eax, %eax
    xor %edx, %edx
    mov (%edi), %esi
5:  cmp 4(%edi), %esi
    je 1f
    movzbl (%esi), %edx
    add %edx, %eax
    inc %esi
    jmp 5b
1:  call say_number
    call new_line
    add $16, %edi
    dec %ebp
    jmp 4b
6:

// The last word.
    mov 16(%ebx), %esi
    mov %esi, %edi // where it begins
1:  lodsb
    test %al, %al
    jz 2f
    cmp $' ', %al
    jne 1b
    mov %esi, %edi
    jmp 1b
2:  cmpl $0x706F6F6C, (%edi) // loop
    je do_loop
    cmpl $0x746C6168, (%edi) // halt
    je do_halt
    cmpl $0x656C6469, (%edi) // idle
    je do_idle
    cmpl $0x6C756166, (%edi) // faul(t)
    je do_fault
    cmpl $0x65736572, (%edi) // rese(t)
    je do_reset

// Interrupts: gates for the two that come, and for all others one that fails.
    mov $gates, %edi
    mov $256, %ecx
    mov $unexpected, %edx
1:  call put_gate
    loop 1b
    mov $gates + 8 * 0x20, %edi
    mov $tick, %edx
    call put_gate
    mov $gates + 8 * 0x24, %edi
    mov $wants_byte, %edx
    call put_gate
    lidt gates_pointer

    mov $0x11, %al // ICW1: edges, a pair, ICW4 follows
    out %al, $first_command
    out %al, $second_command
    mov $0x20, %al // ICW2: the vectors
    out %al, $first_mask
    mov $0x28, %al
    out %al, $second_mask
    mov $4, %al // ICW3: the second one is at input 2
    out %al, $first_mask
    mov $2, %al
    out %al, $second_mask
    mov $1, %al // ICW4: 8086
    out %al, $first_mask
    out %al, $second_mask
    mov $0xFE, %al // all but IRQ 0 masked
    out %al, $first_mask
    mov $0xFF, %al
    out %al, $second_mask

    mov $0x34, %al // channel 0: both bytes, rate generator
    out %al, $0x43
    mov $11932 & 0xFF, %al // 100 Hz
    out %al, $0x40
    mov $11932 >> 8, %al
    out %al, $0x40

1:  sti
    hlt
    cli
    cmpl $ticks_wanted, ticks
    jb 1b
    mov $text_ticks, %esi
    call say
    mov ticks, %eax
    call say_number
    call new_line
    cmpl $ticks_wanted, ticks
    jne failed

    mov $0xEF, %al // all but IRQ 4 masked
    out %al, $first_mask
    mov $com1 + 1, %dx
    mov $2, %al // IER: the transmitter is empty
    out %al, %dx
    mov $com1 + 4, %dx
    mov $0x0B, %al // MCR: OUT2 lets the line through
    out %al, %dx
1:  cmpl $0, bytes_wanted
    jne 2f
    sti // from the instruction behind HLT on, so that none comes between
    hlt
    cli
    jmp 1b
2:  mov $com1 + 1, %dx
    xor %eax, %eax
    out %al, %dx
    mov $text_byte, %esi
    call say

    mov $0x0B, %al // OCW3: the next read is ISR, and nothing is in service
    out %al, $first_command
    in $first_command, %al
    test %al, %al
    jnz failed

    mov $text_end, %esi
    call say
    mov $0x31, %eax
    jmp end
failed:
    mov $text_failed, %esi
    call say
    mov $1, %eax
end:
    mov $0xF4, %dx
    out %eax, %dx
1:  cli
    hlt
    jmp 1b

do_loop:
    jmp do_loop
do_halt:
    hlt
    jmp failed
do_idle:
    sti
    hlt
    jmp failed
do_fault: // no table of interrupts: the exception in the exception in the exception
    lidt no_gates
    ud2
do_reset:
    mov $0xCF9, %dx
    mov $0x06, %al
    out %al, %dx
    jmp failed

// ------------------------------------------------------------------------------------------------------- interrupts
put_gate: // an interrupt gate with the handler in EDX, at EDI, which moves on
    mov %edx, %eax
    and $0xFFFF, %eax
    or $0x18 << 16, %eax
    stosl
    mov %edx, %eax
    and $0xFFFF0000, %eax
    or $0x8E00, %eax
    stosl
    ret

tick:
    push %eax
    incl ticks
    mov $0x20, %al // EOI
    out %al, $first_command
    pop %eax
    iret

wants_byte:
    push %eax
    push %edx
    mov $com1 + 2, %dx
    in %dx, %al
    cmp $2, %al // IIR: the transmitter is empty; and reading it serves it
    jne failed
    incl bytes_wanted
    mov $0x64, %al // EOI, specific
    out %al, $first_command
    pop %edx
    pop %eax
    iret

unexpected:
    jmp failed

// ------------------------------------------------------------------------------------------------------------- COM1
say: // the text at ESI
    push %eax
    push %edx
1:  lodsb
    test %al, %al
    jz 2f
    call put
    jmp 1b
2:  pop %edx
    pop %eax
    ret

put: // the byte in AL
    push %edx
    push %eax
    mov $com1 + 5, %dx
1:  in %dx, %al
    test $0x20, %al
    jz 1b
    pop %eax
    mov $com1, %dx
    out %al, %dx
    pop %edx
    ret

new_line:
    push %eax
    mov $'\n', %al
    call put
    pop %eax
    ret

say_number: // EAX, in decimal
    push %eax
    push %ecx
    push %edx
    push %edi
    mov $10, %ecx
    xor %edi, %edi
1:  xor %edx, %edx
    div %ecx
    add $'0', %edx
    push %edx
    inc %edi
    test %eax, %eax
    jnz 1b
2:  pop %eax
    call put
    dec %edi
    jnz 2b
    pop %edi
    pop %edx
    pop %ecx
    pop %eax
    ret

    .data
text_hello: .asciz "a kernel of 32 bits: "
text_memory: .asciz "KiB above 1 MiB: "
text_map: .asciz ", in a map of "
text_ranges: .asciz " ranges\n"
text_module: .asciz "module "
text_sum: .asciz ", sum of its bytes "
text_ticks: .asciz "ticks of the timer: "
text_byte: .asciz "COM1 asked for a byte\n"
text_end: .asciz "all is well\n"
text_failed: .asciz "FAILED\n"

    .align 8
descriptors:
    .quad 0, 0, 0
    .quad 0x00CF9B000000FFFF // 0x18: code
    .quad 0x00CF93000000FFFF // 0x20: data
descriptors_pointer:
    .word . - descriptors - 1
    .long descriptors
gates_pointer:
    .word 256 * 8 - 1
    .long gates
no_gates:
    .word 0
    .long 0

    .bss
    .align 8
gates: .skip 256 * 8
information: .skip 4
ticks: .skip 4
bytes_wanted: .skip 4
    .align 16
    .skip 4096
stack:

    .section .note.GNU-stack, "", @progbits
