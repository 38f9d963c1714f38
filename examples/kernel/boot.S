// SPDX-License-Identifier: BSL-1.0
//
// From a multiboot loader, which leaves the processor in 32-bit protected mode without paging, to kernel_main in 64-bit
// mode with memory mapped one to one; and the way from an interrupt to interrupt_taken.

// ------------------------------------------------------------------------------------------------ multiboot header
// Version 1 (0.6.96) knows only 32-bit ELF files. With the address fields (flag 16) the loader copies the file as it
// lies, and a 64-bit one will do.
    .set magic, 0x1BADB002
    .set flags, 1 << 16

    .section .multiboot, "a"
    .align 4
header:
    .long magic, flags, -(magic + flags)
    .long header, load_start, load_end, bss_end, start

// ------------------------------------------------------------------------------------------------------ page tables
// 4 GiB with pages of 2 MiB, writable. From 2 GiB on there is no RAM but the devices: PCD and PWT, so uncacheable
// (the PAT is as after reset).
    .set present_writable, 0x003
    .set large,            0x080
    .set uncacheable,      0x018

    .section .data
    .align 4096
level_4:
    .quad level_3 + present_writable
    .skip 4096 - 8
level_3:
    .set i, 0
    .rept 4
    .quad level_2 + 4096 * i + present_writable
    .set i, i + 1
    .endr
    .skip 4096 - 4 * 8
level_2:
    .set i, 0
    .rept 1024
    .quad (i << 21) + large + present_writable
    .set i, i + 1
    .endr
    .rept 1024
    .quad (i << 21) + large + uncacheable + present_writable
    .set i, i + 1
    .endr

// ------------------------------------------------------------------------------------------------------------ entry
    .align 16
descriptors:
    .quad 0
    .quad 0x00AF9B000000FFFF // 0x08: 64-bit code, ring 0
    .quad 0x00CF93000000FFFF // 0x10: data
descriptors_pointer:
    .word . - descriptors - 1
    .long descriptors

    .section .bss
    .align 16
    .skip 65536
stack:

    .text
    .code32
    .globl start
start:
    cli
    cld
    mov %eax, %ebp // what the loader says it is
    mov %ebx, %esi // where its information is

    mov $bss_start, %edi
    mov $bss_end, %ecx
    sub %edi, %ecx
    xor %eax, %eax
    rep stosb

    mov %cr4, %eax
    or $0x20, %eax // PAE
    mov %eax, %cr4
    mov $level_4, %eax
    mov %eax, %cr3
    mov $0xC0000080, %ecx // IA32_EFER
    rdmsr
    or $0x100, %eax // LME
    wrmsr
    mov %cr0, %eax
    or $0x80000001, %eax // PG, PE
    mov %eax, %cr0
    lgdt descriptors_pointer
    ljmp $0x08, $start_64

    .code64
start_64:
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    xor %eax, %eax
    mov %eax, %fs
    mov %eax, %gs
    mov $stack, %esp
    mov %ebp, %edi
    mov %esi, %esi // whose upper half the change of mode left undefined
    call kernel_main
0:  cli
    hlt
    jmp 0b

// ------------------------------------------------------------------------------------------------------- interrupts
// One stub of 16 bytes for each vector. Those exceptions that have no error code get 0 for one, so that all look alike
// [sdm, Interrupt and Exception Handling].
    .globl interrupt_stubs
    .align 16
interrupt_stubs:
    .set i, 0
    .rept 256
    .align 16
    .if i != 8 && (i < 10 || i > 14) && i != 17 && i != 21 && i != 29 && i != 30
    push $0
    .endif
    push $i
    jmp interrupt_entry
    .set i, i + 1
    .endr

// The processor has aligned the stack to 16 before it pushed five words; with the two of the stub and fifteen
// registers it is 16-aligned again at the call.
interrupt_entry:
    push %rax
    push %rbx
    push %rcx
    push %rdx
    push %rsi
    push %rdi
    push %rbp
    push %r8
    push %r9
    push %r10
    push %r11
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, %rdi
    cld
    call interrupt_taken
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %r11
    pop %r10
    pop %r9
    pop %r8
    pop %rbp
    pop %rdi
    pop %rsi
    pop %rdx
    pop %rcx
    pop %rbx
    pop %rax
    add $16, %rsp // vector and error code
    iretq

    .section .note.GNU-stack, "", @progbits
