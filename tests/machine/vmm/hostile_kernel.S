// SPDX-License-Identifier: BSL-1.0
//
// A guest that turns what its own processor can do against its VMM. It does what its last word says, and ends with 0x31
// at port 0xF4, or with 1 if something was wrong:
//
//   debug-loop        a debug exception comes up in the delivery of each debug exception, for ever
//   alignment-loop    an alignment check does in that of each alignment check
//   registers         DR7 outlives exits, has a guard, and takes no bit above 31
//   breakpoint=HEX    at an instruction of the VMM, at the same linear address
//   trap-halt         single steps into HLT
//   nmi-return        the IRET of an NMI's handler faults, and is single-stepped, and finds no flags but its own
//   real-mode         an exception that the VMM raises in real-address mode, where none has an error code
//   wide-registers    MOV to CR0, CR4 and DR7 in code of 32 bits, with upper halves that do not count
//   lost-tables       CR3 leads to where there is no memory
    .set com1, 0x3F8
    .set end_port, 0xF4
    .set good, 0x31
    .set local_apic, 0xFEE00000
    .set spurious_vector, 0xF0
    .set command, 0x300

    .set code_32, 0x08
    .set data, 0x10
    .set code_64, 0x18
    .set code_16, 0x20
    .set data_16, 0x28
    .set user_code, 0x33
    .set user_data, 0x3B
    .set task, 0x40

    .set trap_flag, 1 << 8
    .set single_step, 1 << 14     // of DR6
    .set register_access, 1 << 13 // of DR6
    .set general_detect, 1 << 13  // of DR7
    .set no_breakpoints, 0x400    // DR7
    // DR7: breakpoint 0 at writes of 4 bytes, and at an instruction.
    .set at_writes, 0x000D0602
    .set at_an_instruction, 0x00000602

    .text
    .align 4
    .set magic, 0x1BADB002
    .long magic, 0, -magic

    .code32
    .globl start
start:
    cli
    cld
    mov $stack, %esp
    lgdt descriptors_pointer
    ljmp $code_32, $1f
1:  mov $data, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss

// The last word, and by its first four letters what it means.
    mov 16(%ebx), %esi
    mov %esi, %edi // where it begins
1:  lodsb
    test %al, %al
    jz 2f
    cmp $' ', %al
    jne 1b
    mov %esi, %edi
    jmp 1b
2:  mov (%edi), %ebp
    xor %edx, %edx // the number behind '=', in small hexadecimal digits
3:  movzbl (%edi), %eax
    inc %edi
    cmp $'=', %al
    jb 4f
    lea -('a' - 10)(%eax), %eax
    jne 5f
    xor %edx, %edx
    jmp 3b
4:  sub $'0', %eax
    jb 6f
5:  shl $4, %edx
    or %eax, %edx
    jmp 3b
6:
    mov %edx, number
    cmp $0x67696C61, %ebp // alig
    je alignment_loop
    cmp $0x6C616572, %ebp // real
    je real_mode

// 64-bit mode, with the first 4 GiB where they are, by pages of 2 MiB.
    mov $directories, %edi
    mov $0x83, %eax // present, writable, large
    mov $2048, %ecx
1:  mov %eax, (%edi)
    movl $0, 4(%edi)
    add $0x200000, %eax
    add $8, %edi
    loop 1b
    mov $directories + 3, %eax
    mov $directory_pointers, %edi
    mov $4, %ecx
1:  mov %eax, (%edi)
    add $4096, %eax
    add $8, %edi
    loop 1b
    movl $directory_pointers + 3, top_table
    mov %cr4, %eax
    or $1 << 5, %eax // PAE
    mov %eax, %cr4
    mov $top_table, %eax
    mov %eax, %cr3
    mov $0xC0000080, %ecx // EFER
    rdmsr
    or $1 << 8, %eax // LME
    wrmsr
    mov %cr0, %eax
    or $1 << 31, %eax // PG
    mov %eax, %cr0
    ljmp $code_64, $1f

    .code64
1:  mov $stack, %esp
    mov $gates, %edi
    mov $32, %ecx
    mov $failed, %edx
1:  call put_gate
    loop 1b
    lidt gates_pointer(%rip)
    mov $gates + 16 * 1, %edi
    mov $debugged, %edx
    call put_gate

    cmp $0x75626564, %ebp // debu
    je debug_loop
    cmp $0x69676572, %ebp // regi
    je registers
    cmp $0x61657262, %ebp // brea
    je breakpoint
    cmp $0x70617274, %ebp // trap
    je trap_halt
    cmp $0x2D696D6E, %ebp // nmi-
    je nmi_return
    cmp $0x65646977, %ebp // wide
    je wide_registers
    cmp $0x74736F6C, %ebp // lost
    je lost_tables

failed:
    mov $text_failed, %esi
    call say
    mov $1, %eax
end:
    mov $end_port, %dx
    out %eax, %dx
1:  cli
    hlt
    jmp 1b
done:
    mov $text_done, %esi
    call say
    mov $good, %eax
    jmp end

// --------------------------------------------------------------------------------------------- exceptions without end
// Its handler has a stack of its own, which is the same each time, and what the delivery writes there is watched.
debug_loop:
    mov $task_state, %eax
    mov %ax, task_descriptor + 2(%rip)
    shr $16, %eax
    mov %al, task_descriptor + 4(%rip)
    mov %ah, task_descriptor + 7(%rip)
    mov $task, %eax
    ltr %ax
    movb $1, gates + 16 * 1 + 4(%rip) // the first stack of the task state
    mov $handler_stack - 8, %eax // where the old SS goes
    mov %rax, %dr0
    mov $text_begun, %esi
    call say
    mov $at_writes, %eax
    mov %rax, %dr7
    movl $1, handler_stack - 8(%rip)
    mov $text_no_breakpoint, %esi
    call say
    jmp done

// The handler runs with the privilege of all else, so that there is one stack, which is not aligned.
    .code32
alignment_loop:
    mov $check_alignment, %eax
    mov %ax, gates + 8 * 17
    movw $user_code, gates + 8 * 17 + 2
    movw $0xEE00, gates + 8 * 17 + 4
    shr $16, %eax
    mov %ax, gates + 8 * 17 + 6
    lidt gates_pointer
    mov %cr0, %eax
    or $1 << 18, %eax // AM
    mov %eax, %cr0
    mov $user_data, %eax
    mov %eax, %ds
    push %eax
    push $stack - 1
    push $(1 << 18 | 3 << 12 | 2) // AC, and all ports
    push $user_code
    push $1f
    iret
1:  mov stack - 3, %eax
    mov $end_port, %dx // nobody minds here
    mov $good, %eax
    out %eax, %dx
check_alignment:
    jmp check_alignment

// ---------------------------------------------------------------------------------------------------- debug registers
    .code64
registers:
    mov $gates + 16 * 13, %edi
    mov $skip, %edx
    call put_gate
    mov $watched, %eax
    mov %rax, %dr0
    mov $at_writes, %eax
    mov %rax, %dr7
    xor %eax, %eax
    cpuid // exits
    mov %dr7, %rax
    cmp $at_writes, %rax
    jne failed
    xor %eax, %eax
    mov %rax, %dr6
    movl $1, watched(%rip)
    mov $text_no_breakpoint, %esi
    cmpl $0, debug_exceptions(%rip)
    je 1f
    mov %dr6, %rax
    test $1, %al // B0
    jz failed
    mov $text_breakpoint, %esi
1:  call say

    movl $0, debug_exceptions(%rip)
    mov $no_breakpoints | general_detect, %eax
    mov %rax, %dr7
    mov $no_breakpoints, %eax
    mov %rax, %dr7 // is detected; the handler finds the guard down, and this is executed again
    cmpl $1, debug_exceptions(%rip)
    jne failed
    mov %dr6, %rax
    test $register_access, %eax
    jz failed
    mov %dr7, %rax
    cmp $no_breakpoints, %rax
    jne failed

    mov $1, %eax
    shl $32, %rax
    mov %rax, %dr7
    mov %rax, %dr6
    cmpl $2, skipped(%rip)
    jne failed
    jmp done

breakpoint:
    mov $at_an_instruction, %ebx
    mov $no_breakpoints, %ebp
    mov number(%rip), %esi
    mov %rsi, %dr0 // where, then that it counts
    mov %rbx, %dr7
    call exit_often
    mov %rbp, %dr7
    .byte 0x0F, 0x23, 0xEB // mov %rbx, %dr5: the old name of DR7
    call exit_often
    mov %rbp, %dr7
    xor %eax, %eax // that it counts, then where
    mov %rax, %dr0
    mov %rbx, %dr7
    mov %rsi, %dr0
    call exit_often
    mov %rbp, %dr7
    jmp done

exit_often:
    push %rbx
    mov $2000, %r8d
1:  xor %eax, %eax
    cpuid
    mov $2000, %ecx
2:  loop 2b
    dec %r8d
    jnz 1b
    pop %rbx
    ret

// ----------------------------------------------------------------------------------------------------------- trap flag
trap_halt:
    xor %eax, %eax
    mov %rax, %dr6
    pushf
    orl $trap_flag, (%rsp)
    popf
    hlt
    cmpl $1, debug_exceptions(%rip)
    jne failed
    mov %dr6, %rax
    test $single_step, %eax
    jz failed
    jmp done

nmi_return:
    mov $gates + 16 * 2, %edi
    mov $nmi, %edx
    call put_gate
    mov $gates + 16 * 13, %edi
    mov $return_fault, %edx
    call put_gate
    mov $local_apic, %ebx
    movl $0x1FF, spurious_vector(%rbx)
    mov $single_step, %eax // of old, and nobody else's
    mov %rax, %dr6
    movl $0x4400, command(%rbx) // an NMI to itself
1:  cmpl $0, nmis(%rip)
    je 1b
    cmpl $1, skipped(%rip)
    jne failed
    cmpl $0, debug_exceptions(%rip)
    jne failed
    mov %dr6, %rax
    test $single_step, %eax
    jz failed
    xor %eax, %eax
    mov %rax, %dr6
    movl $0x4400, command(%rbx)
1:  cmpl $2, nmis(%rip)
    jne 1b
    cmpl $1, debug_exceptions(%rip)
    jne failed
    mov %dr6, %rax
    test $single_step, %eax
    jz failed
    jmp done
nmi:
    incl nmis(%rip)
    cmpl $1, nmis(%rip)
    jne 1f
    movq $0x1000, 8(%rsp) // no such code segment
    iretq
1:  pushf
    orl $trap_flag, (%rsp)
    popf
    iretq // and a trap behind it
return_fault: // with an error code
    testl $trap_flag, 24(%rsp)
    jnz failed
    incl skipped(%rip)
    mov 32(%rsp), %rcx // the NMI's frame
    movq $code_64, 8(%rcx)
    add $8, %rsp
    iretq

// ----------------------------------------------------------------------------------------------------- other registers
wide_registers:
    mov $-1, %eax
    shl $32, %rax
    mov %cr4, %rbx
    or %rax, %rbx
    mov %cr0, %rdi
    or $1 << 30, %edi // CD
    or %rax, %rdi
    mov $no_breakpoints, %esi
    or %rax, %rsi
    push $code_32
    mov $1f, %eax
    push %rax
    lretq
    .code32
1:  mov %edi, %cr0
    mov %ebx, %cr4
    mov %esi, %dr7
    ljmp $code_64, $1f
    .code64
1:  mov %cr0, %rax
    test $1 << 30, %eax
    jz failed
    jmp done

lost_tables:
    mov $local_apic, %eax
    mov %rax, %cr3
    jmp failed

// ---------------------------------------------------------------------------------------------------- real-address mode
    .code32
real_mode:
    .set low, 0x8000
    mov $low_code, %esi
    mov $low, %edi
    mov $low_end - low_code, %ecx
    rep movsb
    ljmp $code_16, $low
    .code16
low_code:
    mov $data_16, %ax
    mov %ax, %ds
    mov %ax, %ss
    mov %cr0, %eax
    and $~1, %al // PE
    mov %eax, %cr0
    ljmp $0, $low + 1f - low_code
1:  xor %ax, %ax
    mov %ax, %ds
    mov %ax, %ss
    mov $0x7000, %sp
    lidt %cs:low + low_gates - low_code
    movw $low + low_handler - low_code, 4 * 13
    movw $0, 4 * 13 + 2
    mov $0x12345678, %ecx
low_fault:
    rdmsr // no such one
low_handler:
    mov $1, %ebx
    pop %ax
    cmp $low + low_fault - low_code, %ax
    jne 1f
    cmp $0x7000 - 4, %sp
    jne 1f
    mov $good, %ebx
1:  mov %ebx, %eax
    mov $end_port, %dx
    out %eax, %dx
1:  hlt
    jmp 1b
low_gates:
    .word 0x3FF
    .long 0
low_end:

// ------------------------------------------------------------------------------------------------------------ handlers
    .code64
put_gate: // an interrupt gate with the handler in EDX, at EDI, which moves on
    mov %edx, %eax
    and $0xFFFF, %eax
    or $code_64 << 16, %eax
    stosl
    mov %edx, %eax
    and $0xFFFF0000, %eax
    or $0x8E00, %eax
    stosl
    xor %eax, %eax
    stosl
    stosl
    ret

debugged:
    incl debug_exceptions(%rip)
    andl $~trap_flag, 16(%rsp)
    iretq

skip: // an instruction of three bytes; there is an error code
    incl skipped(%rip)
    add $8, %rsp
    addq $3, (%rsp)
    iretq

say: // the text at ESI
    mov $com1 + 5, %dx
1:  in %dx, %al
    test $0x20, %al
    jz 1b
    lodsb
    test %al, %al
    jz 2f
    mov $com1, %dx
    out %al, %dx
    jmp say
2:  ret

    .data
text_begun: .asciz "here it begins\n"
text_breakpoint: .asciz "a breakpoint came up\n"
text_no_breakpoint: .asciz "no breakpoint came up\n"
text_done: .asciz "all is well\n"
text_failed: .asciz "FAILED\n"

    .align 8
descriptors:
    .quad 0
    .quad 0x00CF9B000000FFFF // 0x08: code of 32 bits
    .quad 0x00CF93000000FFFF // 0x10: data
    .quad 0x00AF9B000000FFFF // 0x18: code of 64 bits
    .quad 0x00009B000000FFFF // 0x20: code of 16 bits
    .quad 0x000093000000FFFF // 0x28: data for it
    .quad 0x00CFFB000000FFFF // 0x30: code of a user
    .quad 0x00CFF3000000FFFF // 0x38: data of a user
task_descriptor:             // 0x40
    .quad 0x0000890000000067, 0
descriptors_pointer:
    .word . - descriptors - 1
    .long descriptors
gates_pointer:
    .word 32 * 16 - 1
    .long gates, 0
    .align 8
task_state:
    .skip 36
    .long handler_stack, 0
    .skip 60

    .bss
    .align 4096
top_table: .skip 4096
directory_pointers: .skip 4096
directories: .skip 4 * 4096
gates: .skip 32 * 16
number: .skip 4
watched: .skip 4
debug_exceptions: .skip 4
skipped: .skip 4
nmis: .skip 4
    .align 16
    .skip 256
handler_stack: .skip 16
    .skip 4096
stack:

    .section .note.GNU-stack, "", @progbits
